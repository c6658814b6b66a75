"""A bench for one vault of a node: the memory store, a clock to turn, no threads, and what a client asks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from xxhash import xxh3_128_digest

from dfs.core import bulk_rows, messages, register
from dfs.core.bulk_rows import AcceptItem, Promise, RowState
from dfs.core.env import RealFiles
from dfs.core.errors import (
    DfsError,
)
from dfs.core.interface import Store, StoreOptions, Transaction, VaultStore
from dfs.core.messages import AcceptResult, ConfirmItem, PrepareItem, ShareHead
from dfs.core.node import Answer, VaultNode, Work, transact
from dfs.core.roster import encode_roster, roster_digest
from dfs.core.types import (
    Claim,
    Geometry,
    Node,
    NodeId,
    Roster,
    ShareKey,
)
from dfs.plugins import memory_store
from dfs.testing.stores import ballot, register_key, share_key

T = TypeVar("T")

NODES = tuple(Node(NodeId(bytes((i,)) * 16)) for i in range(1, 5))
ROSTER = encode_roster(Roster(1, NODES, 4, 1))
DIGEST = roster_digest(ROSTER)
HERE = 1  # place of the node under test in the roster
FILE, TOMBSTONE = b"\x01sealed", b"\x03gone"
KEY = register_key(1)
TAG = b"t" * 32


class TestEnv:
    __test__ = False

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.nonce = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 0.0

    def random_bytes(self, size: int) -> bytes:
        self.nonce += 1
        return self.nonce.to_bytes(size, "big")


@define
class Direct:
    """Commits at once; keeps what may come later until the next."""

    store: VaultStore
    kept: list[Work] = field(factory=list)
    vault: VaultNode | None = None

    def run(self, work: Callable[[Transaction], T]) -> T:
        works, self.kept = [*self.kept, work], []
        results, mark = transact(self.store, works)
        if self.vault is not None:
            self.vault.advance(mark)
        if isinstance(results[-1], DfsError):
            raise results[-1]
        return results[-1]  # type: ignore[return-value]

    def later(self, work: Work) -> None:
        self.kept.append(work)


@define
class Bench:
    """A vault under test and the requests of a client."""

    vault: VaultNode
    env: TestEnv

    def ask(self, request: messages.Request, bulk: bytes = b"") -> Answer:
        return self.vault.answer(request, memoryview(bulk))

    def reply(self, request: messages.Request, bulk: bytes = b"") -> Any:
        return self.ask(request, bulk).reply

    def active(self) -> "Bench":
        self.ask(messages.Create(ROSTER))
        self.ask(messages.Activate(DIGEST))
        return self

    def prepare(self, counter: int, key: Any = KEY) -> Promise:
        answer = self.ask(messages.Prepare(DIGEST, (PrepareItem(key, ballot(counter)),)))
        return bulk_rows.decode_promises(answer.bulk[0])[0]

    def accept(self, *items: AcceptItem) -> AcceptResult:
        result: AcceptResult = self.reply(
            messages.Accept(DIGEST, len(items)), bulk_rows.encode_accepts(items)
        ).results[0]
        return result

    def confirm(self, counter: int, *, safe: bool = True, durable: bool = True) -> tuple[bool, ...]:
        item = ConfirmItem(KEY, ballot(counter), TAG, safe)
        held: tuple[bool, ...] = self.reply(messages.Confirm(DIGEST, durable, (item,))).held
        return held

    def read(self, *, values: bool = True, shares: bool = False) -> RowState:
        return bulk_rows.decode_states(self.ask(messages.Read(DIGEST, values, shares, (KEY,))).bulk[0])[0]

    def keep(self, *keys: ShareKey, body: bytes = b"body!") -> None:
        heads = tuple(ShareHead(key, len(body), xxh3_128_digest(body)) for key in keys)
        self.ask(messages.Store(heads), body * len(keys))

    def has(self, *keys: ShareKey) -> tuple[bool, ...]:
        held: tuple[bool, ...] = self.reply(messages.Has(keys)).held
        return held


def opened_store(tmp_path: Path) -> Store:
    return memory_store.make(
        StoreOptions(
            directory=str(tmp_path), files=RealFiles(), env=TestEnv(), inline_size_max=64, reserve_size=0
        )
    )


def bench_of(store: Store) -> Bench:
    vault_store = store.vault("ines", create=True)
    commit, env = Direct(vault_store), TestEnv()
    vault = VaultNode(NODES[HERE].node_id, 1, vault_store, commit, env)
    commit.vault = vault
    return Bench(vault, env)


def claim(
    number: int, *, nodes: Sequence[Sequence[int]] = ((0,), (HERE,), (2,), (3,)), size: int = 5
) -> Claim:
    return Claim(share_key(number).stripe, size, "rs@1", Geometry(2, len(nodes)), tuple(map(tuple, nodes)))


def mine(number: int) -> ShareKey:
    """The share of a stripe that this node should hold."""
    return share_key(number, HERE)


def item(
    counter: int,
    value: bytes = FILE,
    claims: Sequence[Claim] = (),
    *,
    staged: bool = False,
    lenient: bool = False,
) -> AcceptItem:
    encoded = b"".join(map(bulk_rows.encode_claim, claims))
    claim_set = register.claim_set_digest(encoded)
    digest = register.value_digest(value, claim_set)
    return AcceptItem(KEY, ballot(counter), value, digest, claim_set, b"" if staged else encoded, lenient)
