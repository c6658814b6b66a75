"""Every bound of dfs in one place, with its unit; relations between them are checked at import."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Cluster
NODE_COUNT_MAX: Final = 1024  # nodes of one roster or one conf
GROUP_SIZE_MAX: Final = 16  # n: shares of a stripe, nodes of a directory

# Identifiers, bytes
NODE_ID_SIZE: Final = 16
CHUNK_ID_SIZE: Final = 32
STRIPE_ID_SIZE: Final = 32
DIRECTORY_ID_SIZE: Final = 16
NAME_ID_SIZE: Final = 16
OPERATION_ID_SIZE: Final = 16
BALLOT_SIZE: Final = 24  # 8 counter, big-endian, then 16 attempt id
BALLOT_COUNTER_JUMP_MAX: Final = 1 << 20  # a larger jump is a protocol error naming the node
DIGEST_SIZE: Final = 32
CHECKSUM_SIZE: Final = 16  # xxh3-128
NONCE_SIZE: Final = 32

# Paths
NAME_SIZE_MAX: Final = 255  # bytes of UTF-8, one component
PATH_SIZE_MAX: Final = 4096  # bytes of UTF-8
PATH_DEPTH_MAX: Final = 64  # components
USER_SIZE_MAX: Final = 255  # bytes of UTF-8

# Chunks, shares, entries, bytes
CHUNK_SIZE: Final = 4 * MIB
CHUNK_SIZE_MAX: Final = 16 * MIB
SEAL_OVERHEAD_MAX: Final = 64
SHARE_SIZE_MAX: Final = CHUNK_SIZE_MAX + SEAL_OVERHEAD_MAX
SHARE_INLINE_SIZE_MAX: Final = 64 * KIB  # kept in the node's database, not in a volume
CONTENT_INLINE_SIZE_MAX: Final = 1 * KIB  # packed content kept in the entry itself
SMALL_SIZE_MAX: Final = 512 * KIB  # a file up to this size shares its requests with others
CHUNK_LIST_INLINE_SIZE_MAX: Final = 64 * KIB  # encoded chunk list kept in the entry itself
FACTS_SIZE_MAX: Final = 64  # placement facts in a manifest
ENTRY_SIZE_MAX: Final = 96 * KIB  # sealed entry

# Frames, bytes and counts
HEADER_SIZE: Final = 64
CONTROL_SIZE_MAX: Final = 64 * KIB
CONTROL_SIZE_BEFORE_LOGIN_MAX: Final = 4 * KIB
BULK_SIZE_MAX: Final = SHARE_SIZE_MAX + 64 * KIB
BATCH_COUNT_MAX: Final = 512  # items of one request
REGISTER_COUNT: Final = 128  # registers a client asks for at once: their largest values fit one reply
LIST_COUNT_MAX: Final = 1024  # rows of one LIST reply
MISSING_COUNT_MAX: Final = 16  # missing shares named in one ACCEPT result: all results fit a control body
ARRAY_COUNT_MAX: Final = 4096  # items of one array in any encoding; allocated as announced
ITEM_COUNT_MAX: Final = 1 << 18  # items of all arrays of one encoded value together
BULK_POOL_SIZE: Final = 64 * MIB  # all bulk buffers of one node process
BULK_POOL_SHARE: Final = 40 * MIB  # of it, for one user: two of the largest frames, and others find room
UNSENT_SIZE_MAX: Final = 64 * MIB  # of replies that peers do not read, in one node process
UNSENT_SHARE_MAX: Final = 32 * MIB  # of it, for one user
CLIENT_BUFFER_SIZE: Final = 64 * MIB  # all chunk buffers of one client process

# Connections and logins
CONNECTION_COUNT_MAX: Final = 4096
ADDRESS_CONNECTION_COUNT: Final = 1024  # of one address, unless the conf says more or less
USER_CONNECTION_COUNT: Final = 512  # logged in as one user, unless the conf says more or less
GUEST_COUNT_MAX: Final = 64  # connections above a bound that are told so; more are dropped
GREETING_COUNT_MAX: Final = 16  # frames before the login: their answers fit any socket's buffer
CLIENT_RATE_MIN: Final = 32 * KIB  # bytes a second; less would be too slow for each of its connections
PROGRESS_RATE: Final = 1 * KIB  # bytes a second that a frame must go on at, in either direction ...
PROGRESS_S: Final = 30.0  # ... over this time
GUESS_BURST: Final = 5  # failed logins before there are delays
GUESS_DELAY_S_MAX: Final = 60.0
STRIKE_S: Final = 60.0  # after which one failed login is forgiven
STRIKE_COUNT_MAX: Final = 11  # 5 free ones, then 1, 2, 4 ... 60 s
GUESSER_COUNT_MAX: Final = 4096  # addresses, users, and pairs of them that failed logins are kept of

# Conf files
CONF_SIZE_MAX: Final = 1 * MIB
CONF_LINE_SIZE_MAX: Final = 4096

# Password key derivation (Argon2id)
KDF_MEMORY_MIN: Final = 64 * MIB
KDF_MEMORY_MAX: Final = 4 * GIB
KDF_PASSES_MIN: Final = 3
KDF_PASSES_MAX: Final = 64
KDF_LANES_MIN: Final = 1
KDF_LANES_MAX: Final = 64

# Times, seconds
CONNECT_TIMEOUT_S: Final = 1.0
REQUEST_TIMEOUT_S: Final = 30.0
HANDSHAKE_TIMEOUT_S: Final = 10.0
LOGIN_TIMEOUT_S: Final = 60.0  # from connecting to the login; a person may have to answer meanwhile
IDLE_TIMEOUT_S: Final = 300.0
PATIENCE_S: Final = 0.8  # how long a node without progress is waited for once the others are done
PATIENCE_DURABLE_S: Final = 5.0  # the same while its disk may be busy ...
KNOCK_AFTER_S: Final = 0.4  # ... but after so much of it a greeting is asked for ...
KNOCK_TIMEOUT_S: Final = 0.4  # ... which is due in this time, or the node is frozen
HEDGE_S: Final = 0.3  # how long a read waits for a node before it also asks another
PROBE_INTERVAL_S: Final = 5.0  # a node that timed out is tried again in the background
PIN_LEASE_S: Final = 24 * 3600.0
BACKOFF_S_MAX: Final = 0.040  # times the attempt number, random

if not CHUNK_SIZE <= CHUNK_SIZE_MAX < SHARE_SIZE_MAX < BULK_SIZE_MAX <= BULK_POOL_SIZE:
    raise AssertionError("sizes of chunk, share, bulk and pool do not nest")
if not BULK_SIZE_MAX * 9 // 8 * 2 <= BULK_POOL_SHARE <= BULK_POOL_SIZE - BULK_SIZE_MAX * 9 // 8:
    raise AssertionError("a user's share of the pool must hold two frames and leave room for one")
if not REGISTER_COUNT * (ENTRY_SIZE_MAX + 1024) <= BULK_SIZE_MAX - 3 * MIB:
    raise AssertionError("the largest values of one request do not fit its reply")
if not CONTENT_INLINE_SIZE_MAX + CHUNK_LIST_INLINE_SIZE_MAX + 3 * PATH_SIZE_MAX < ENTRY_SIZE_MAX:
    raise AssertionError("the largest entry does not fit its bound")
