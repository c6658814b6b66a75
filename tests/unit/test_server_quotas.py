"""A quota in a race: many writers over real connections never take a byte too much."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dfs.core import bulk_rows, messages, register
from dfs.core.bulk_rows import AcceptItem
from dfs.core.charges import Purpose, bound, share_charge
from dfs.core.errors import QuotaError
from dfs.core.types import Claim, Geometry, NameId, RegisterKey
from dfs.testing.stores import DIRECTORY, ballot
from tests.unit.server_kit import DIGEST, Client, House, plain, share_key

WRITER_COUNT = 20
SHARE_SIZE = 9_000
QUOTA = 1_000_000


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(House(tmp_path, plain(tmp_path))) as house:
        house.set_quota(QUOTA)
        yield house


def told(client: Client) -> messages.QuotaReply:
    reply, _ = client.ask(messages.Quota())
    assert isinstance(reply, messages.QuotaReply)
    return reply


def store(client: Client, number: int) -> bool:
    """Store a share, a promise for its entry, and the entry; False when there is no room for one of them."""
    try:
        client.keep(share_key(number), number.to_bytes(4, "big") * (SHARE_SIZE // 4))
    except QuotaError:
        return False
    key = RegisterKey(DIRECTORY, NameId(number.to_bytes(16, "big")))
    _, bulk = client.ask(messages.Prepare(DIGEST, (messages.PrepareItem(key, ballot(1)),)))
    (promise,) = bulk_rows.decode_promises(bulk)
    if not promise.granted:
        return False
    claim = Claim(share_key(number).stripe, SHARE_SIZE, "rs@1", Geometry(1, 1), ((0,),))
    claims = bulk_rows.encode_claim(claim)
    claim_set = register.claim_set_digest(claims)
    value = b"\x01" + bytes(700)
    digest = register.value_digest(value, claim_set)
    item = AcceptItem(key, ballot(1), value, digest, claim_set, claims, lenient=False)
    reply, _ = client.ask(messages.Accept(DIGEST, 1), [bulk_rows.encode_accepts([item])])
    (result,) = reply.results
    assert result.status in {messages.ACCEPTED, messages.OVER_QUOTA}
    return bool(result.status == messages.ACCEPTED)


def race(house: House, write: Callable[[Client, int], int]) -> int:
    """Let all writers write at once, look at the usage all the while, and return what they wrote."""
    clients = [house.logged_in() for _ in range(WRITER_COUNT)]
    start, ended = threading.Barrier(WRITER_COUNT + 1), threading.Event()
    seen: list[int] = []

    def run(index: int) -> int:
        start.wait(10)
        return write(clients[index], index)

    def watch(client: Client) -> None:
        start.wait(10)
        while not ended.is_set():
            seen.append(told(client).used_size)

    with ThreadPoolExecutor(WRITER_COUNT + 1) as pool:
        watching = pool.submit(watch, house.logged_in())
        written = [pool.submit(run, index) for index in range(WRITER_COUNT)]
        count = sum(future.result(20) for future in written)
        ended.set()
        watching.result(20)
    seen.append(told(house.logged_in()).used_size)
    assert max(seen) <= QUOTA
    return count


def test_twenty_writers_never_exceed_the_quota_by_a_byte(house: House) -> None:
    house.logged_in().make_vault()

    def write(client: Client, index: int) -> int:
        return sum(store(client, 1 + index * 10 + step) for step in range(10))

    count = race(house, write)
    each = share_charge(SHARE_SIZE)
    assert (QUOTA // each) // 2 < count <= QUOTA // each, "they wanted twice what there is"
    reply = told(house.logged_in())
    assert reply.quota == (QUOTA,)
    assert bound(QUOTA, Purpose.NEW) - each < reply.used_size <= QUOTA, "and the room is used up"


def test_of_twenty_who_want_the_last_place_one_gets_it(house: House) -> None:
    client = house.logged_in()
    client.make_vault()
    room = bound(QUOTA, Purpose.NEW) - told(client).used_size - share_charge(SHARE_SIZE)
    client.keep(share_key(1000), bytes(room - share_charge(0)))

    def write(client: Client, index: int) -> int:
        try:
            client.keep(share_key(index), bytes(SHARE_SIZE))
        except QuotaError:
            return 0
        return 1

    assert race(house, write) == 1
    assert told(client).used_size == bound(QUOTA, Purpose.NEW)


def test_a_quota_changed_in_the_users_file_counts_at_once(house: House) -> None:
    client = house.logged_in()
    client.make_vault()
    client.keep(share_key(1), bytes(SHARE_SIZE))
    house.set_quota(100)
    house.accounts.refresh()
    with pytest.raises(QuotaError, match=r"8\.9 KiB of 100 B are used"):
        client.keep(share_key(2), b"more")
    house.set_quota(None)
    house.accounts.refresh()
    client.keep(share_key(2), b"more")
    assert told(client).quota == ()
