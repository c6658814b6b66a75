"""Defects of codes, placements and chunkers."""

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from dfs.core.api import Buffer, Geometry, IncompleteError, Node, Options
from dfs.plugins import fixed, reed_solomon, rendezvous, ring
from tests.kit.defects import Around, broken, seed

(REED,) = reed_solomon.dfs_codes()
(RENDEZVOUS,) = rendezvous.dfs_placements()
(RING,) = ring.dfs_placements()
(FIXED,) = fixed.dfs_chunkers()
SMALL = {"size": "64 KiB"}


class SameParity(Around):
    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        self.inner.encode_into(stripe, parity)
        if len(parity) > 1:
            parity[-1][:] = parity[0]


class ByPosition(Around):
    """Takes the shares in the order they come, not by their index."""

    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        indexes = sorted(shares)
        self.inner.decode_into(dict(zip(indexes, shares.values(), strict=True)), wanted)


class Generous(Around):
    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        self.inner.decode_into(shares, wanted)
        for target in wanted.values():
            if isinstance(target.obj, bytearray):
                target.obj[-1] ^= 1


class Inventing(Around):
    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        try:
            self.inner.decode_into(shares, wanted)
        except IncompleteError:
            for target in wanted.values():
                target[:] = bytes(len(target))


class AnyIndex(Around):
    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        total = self.inner.geometry.total
        self.inner.decode_into(
            {index % total: share for index, share in shares.items()},
            {index % total: target for index, target in wanted.items()},
        )


class AnyCount(Around):
    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        count = self.inner.geometry.total - self.inner.geometry.needed
        if len(parity) >= count:
            self.inner.encode_into(stripe, parity[:count])


class Seamed(Around):
    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        self.inner.encode_into(stripe, parity)
        for target in parity:
            if len(target) > 64 * 1024:
                target[64 * 1024] ^= 1


class OwnMatrix(Around):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.mask = random.Random().randrange(1, 256)  # chosen anew for each instance

    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        self.inner.encode_into(stripe, parity)
        for target in parity:
            target[:] = bytes(byte ^ self.mask for byte in target)


class Scribbling(Around):
    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        self.inner.encode_into(stripe, parity)
        if isinstance(stripe, memoryview) and isinstance(stripe.obj, bytearray) and len(stripe):
            stripe.obj[-1] ^= 1


class Short(Around):
    def share_size(self, stripe_size: int) -> int:
        return int(stripe_size // self.inner.geometry.needed)


class Scratch(Around):
    def decode_into(self, shares: Mapping[int, Buffer], wanted: Mapping[int, memoryview]) -> None:
        self.shares = shares
        os.sched_yield()
        self.inner.decode_into(self.shares, wanted)


class Copying(Around):
    def encode_into(self, stripe: Buffer, parity: Sequence[memoryview]) -> None:
        self.inner.encode_into(bytearray(stripe), parity)


def widened(geometry: Geometry) -> Geometry:
    return Geometry(geometry.needed, min(geometry.total + 1, 16))


ANY_K = "test_any_k_shares_make_every_share"
seed("code", "two parity shares are the same", ANY_K, broken(REED, SameParity))
seed("code", "shares are taken as they come", ANY_K, broken(REED, ByPosition))
seed("code", "a byte beside the target is written", ANY_K, broken(REED, Generous))
seed("code", "the stripe is changed", ANY_K, broken(REED, Scribbling))
seed("code", "zeros for want of shares", "test_too_few_shares_are_incomplete", broken(REED, Inventing))
seed(
    "code",
    "any index will do",
    "test_wrong_sizes_and_indexes_are_refused_in_decoding",
    broken(REED, AnyIndex),
)
seed(
    "code",
    "any count of targets will do",
    "test_wrong_sizes_and_counts_are_refused_in_encoding",
    broken(REED, AnyCount),
)
seed("code", "a wrong byte at a seam", "test_no_size_leaves_a_seam", broken(REED, Seamed))
seed("code", "each instance has its own matrix", "test_encoding_is_deterministic", broken(REED, OwnMatrix))
seed("code", "shares too small for the stripe", "test_shares_hold_the_stripe", broken(REED, Short))
seed("code", "threads share their shares", "test_threads_share_one_code", broken(REED, Scratch))
seed("code", "the stripe is copied", "test_no_stripe_is_copied", broken(REED, Copying))
seed("code", "fit changes n", "test_fit_gives_what_can_be_done", evolve(REED, fit=widened))


# --- Placements ---

Rows = tuple[tuple[Node, ...], ...]


class Doubling(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        rows = self.inner.place(facts, key, count, copies, nodes)
        return rows if len(rows) < 2 else (rows[1], *rows[1:])


class Repeating(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        rows = self.inner.place(facts, key, count, copies, nodes)
        return tuple((row[0],) * len(row) for row in rows)


class Dicing(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        return self.inner.place(facts, random.Random().randbytes(32), count, copies, nodes)  # type: ignore[no-any-return]


class FirstOnly(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        return self.inner.place(facts, b"", count, copies, nodes)  # type: ignore[no-any-return]


class Wrapping(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        fitting = min(count, len(nodes))
        rows = self.inner.place(facts, key, fitting, min(copies, max(len(nodes), 1)), nodes)
        return tuple(rows[index % fitting] for index in range(count))


class Sorting(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        if isinstance(nodes, list):
            nodes.sort(key=lambda node: node.node_id)
        return self.inner.place(facts, key, count, copies, nodes)  # type: ignore[no-any-return]


class Keeping(Around):
    nodes: Sequence[Node] = ()

    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        if len(self.nodes) != len(nodes):
            self.nodes = nodes
        return self.inner.place(facts, key, count, copies, self.nodes)  # type: ignore[no-any-return]


class Verbose(Around):
    def facts(self, key: bytes, nodes: Sequence[Node]) -> bytes:
        return b"".join(node.node_id for node in nodes)


class Believing(Around):
    def place(self, facts: bytes, key: bytes, count: int, copies: int, nodes: Sequence[Node]) -> Rows:
        first = facts[0]
        return tuple((nodes[first + index - len(nodes)],) for index in range(count))


seed(
    "placement",
    "two shares on one node",
    "test_no_node_is_preferred_for_two_shares",
    broken(RENDEZVOUS, Doubling),
)
seed("placement", "copies on one node", "test_every_share_has_its_nodes", broken(RENDEZVOUS, Repeating))
seed("placement", "chance decides", "test_placing_is_deterministic", broken(RENDEZVOUS, Dicing))
seed("placement", "all keys alike", "test_every_node_gets_its_part", broken(RENDEZVOUS, FirstOnly))
seed("placement", "fewer nodes than shares", "test_too_few_nodes_are_refused", broken(RENDEZVOUS, Wrapping))
seed(
    "placement", "the nodes are sorted in place", "test_the_nodes_are_left_alone", broken(RENDEZVOUS, Sorting)
)
seed("placement", "the nodes are kept", "test_the_nodes_are_left_alone", broken(RING, Keeping))
seed("placement", "too many facts", "test_facts_are_few", broken(RENDEZVOUS, Verbose))
seed(
    "placement",
    "facts of strangers are believed",
    "test_any_facts_place_or_are_refused",
    broken(RING, Believing),
)


# --- Chunkers ---


class Stuck(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        size: int = self.inner.cut(window, final=final)
        return 0 if not any(window[:64]) else size


class Overlong(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        self.inner.cut(window, final=final)
        return int(self.inner.chunk_size_max)


class LyingFixed(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        size: int = self.inner.cut(window, final=final)
        return size - window[0] if size > 300 else size


class Counting(Around):
    turn = 0

    def cut(self, window: Buffer, *, final: bool) -> int:
        size: int = self.inner.cut(window, final=final)
        self.turn += 1
        return max(1, size // (1 + self.turn % 2))


class Tiny(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        return min(int(self.inner.cut(window, final=final)), 512)


class Blind(Around):
    fixed = False


class Lax(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        return min(len(window), int(self.inner.chunk_size_max))


class CopyingWindow(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        return int(self.inner.cut(bytes(window), final=final))


class Ending(Around):
    def cut(self, window: Buffer, *, final: bool) -> int:
        size: int = self.inner.cut(window, final=final)
        return size // 2 if final and size > 1 else size


class Immense(Around):
    chunk_size_max = 1 << 28


WHOLE = "test_the_chunks_are_the_file"
for what, caught_by, around in (
    ("no progress over zeros", WHOLE, Stuck),
    ("a chunk longer than its window", WHOLE, Overlong),
    ("fixed and yet not", "test_a_fixed_chunker_cuts_at_multiples", LyingFixed),
    ("every second window is halved", "test_cutting_is_deterministic", Counting),
    ("chunks of a few bytes", "test_chunks_are_not_tiny", Tiny),
    ("boundaries that do not come back", "test_a_change_moves_few_boundaries", Blind),
    ("any window will do", "test_windows_of_another_size_are_refused", Lax),
    ("the window is copied", "test_a_window_is_not_copied", CopyingWindow),
    ("the end moves a boundary", "test_the_end_of_the_file_moves_no_earlier_boundary", Ending),
    ("chunks beyond any frame", "test_the_largest_chunk_is_one_that_dfs_takes", Immense),
):
    seed("chunker", what, caught_by, broken(FIXED, around), values=SMALL)
seed(
    "chunker",
    "any option is taken",
    "test_an_unknown_option_is_refused_by_name",
    evolve(FIXED, make=lambda _options: FIXED.make(Options())),
)
