"""Opening a vault: which roster counts, its master key, and making it when it is new; pure operations.

The master key lies in the wrap register, sealed under keys that follow from the password or key file. A vault
is made by the first login that succeeds on all nodes while all of them are NEW: roster, then wrap (if
absent), then ACTIVE.
"""

from collections.abc import Collection, Mapping, Sequence

from dfs.core import limits, messages
from dfs.core.consensus import Change, Proposal, change_registers
from dfs.core.effects import Operation, Reply, Send, ask
from dfs.core.errors import (
    ConflictError,
    DfsError,
    IntegrityError,
    NotInitialisedError,
    QuorumError,
    SealedError,
    UnknownOutcomeError,
)
from dfs.core.keys import (
    MASTER_SIZE,
    WRAP_NONCE_SIZE,
    WRAP_REGISTER,
    KdfParameters,
    LoginKeys,
    vault_keys,
    wrap_master,
)
from dfs.core.quorum import Quorum, default_geometry, default_tolerance, quorum_of
from dfs.core.reading import read_registers
from dfs.core.records import evolve, field, frozen
from dfs.core.roster import decode_roster, encode_roster, lineage, roster_digest, succeeds
from dfs.core.transfer import Vault
from dfs.core.types import (
    RETURNING,
    Entry,
    EntryKind,
    Node,
    NodeId,
    RegisterKey,
    Roster,
    VaultState,
    Version,
)
from dfs.core.wraps import Ring, Stage, Turn, open_wrapped, wrap_register


@frozen
class Member:
    """What a node told at its login."""

    state: VaultState
    roster: bytes


@frozen
class Owner:
    """Whose vault it is, with the keys that open its wrap."""

    realm: str
    user: str
    kdf: KdfParameters
    login: LoginKeys = field(repr=False)


def new_roster(nodes: Sequence[Node], group_size: int | None) -> bytes:
    """Return the roster of a new vault, nodes in ring order."""
    total = group_size or default_geometry(len(nodes)).total
    return encode_roster(Roster(1, tuple(nodes), total, default_tolerance(total)))


def current_roster(members: Mapping[NodeId, Member]) -> bytes:
    """Return the roster that most of the nodes tell which have one, b"" when no node has one.

    Its epoch alone does not make it count: one node that lies could name itself the whole vault. Of one node
    list that epoch counts which more nodes tell, or a later one, than may lie: see `succeed`. Fewer than R
    nodes decide nothing, so there the latest does.

    Raises:
        ConflictError: no node list is told by more than half of them.
    """
    told = [lineage(member.roster) for member in members.values() if member.roster]
    if not told:
        return b""
    lists = [nodes for nodes, _ in told]
    most = max(set(lists), key=lists.count)
    if 2 * lists.count(most) <= len(told):
        raise ConflictError(
            "the nodes know different node lists for this vault: it was begun with another conf",
            next_step="Use the conf it was begun with.",
        )
    epochs = sorted((epoch for nodes, epoch in told if nodes == most), reverse=True)
    if not epochs[0]:
        return most  # no roster at all
    roster = decode_roster(most)
    liars = roster.tolerance if len(epochs) >= _quorum_of(roster).read else 0
    return encode_roster(evolve(roster, epoch=epochs[min(liars, len(epochs) - 1)]))


def _quorum_of(roster: Roster) -> Quorum:
    return quorum_of(roster.group_size, roster.tolerance)


def renew(roster: bytes, members: Mapping[NodeId, Member]) -> Operation[dict[NodeId, Member]]:
    """Bring nodes to the epoch in force that missed it; returns all members as they are then."""
    sends = [
        Send(node, node, messages.Create(roster))
        for node, member in members.items()
        if member.roster and succeeds(roster, member.roster)
    ]
    answers = yield from ask(sends, quick=True)
    taken = {node for node, reply in answers.replies.items() if _took(reply, roster)}
    return {
        node: evolve(member, roster=roster) if node in taken else member for node, member in members.items()
    }


def succeed(vault: Vault, epoch: int) -> Operation[Vault]:
    """Return the vault under its roster in this epoch, or a later one that is in force already.

    From then on so many nodes refuse whoever opened the vault before that neither R nor W of any group are
    left to them.

    Raises:
        QuorumError: too few nodes take it.
    """
    succeeded, error = yield from _succeeded(vault, epoch)
    if error is not None:
        raise error
    return succeeded


def _succeeded(vault: Vault, epoch: int) -> Operation[tuple[Vault, QuorumError | None]]:
    """Return the vault with those nodes only that take the epoch, and the error if they are too few."""
    nodes = [node.node_id for node in vault.roster.nodes]
    encoded = encode_roster(evolve(vault.roster, epoch=max(epoch, vault.roster.epoch)))
    answers = yield from ask([Send(node, node, messages.Create(encoded)) for node in nodes])
    taken = {node for node, reply in answers.replies.items() if _took(reply, encoded)}
    quorum = _quorum_of(vault.roster)
    needed = len(nodes) - (quorum.total - quorum.write)
    error = None
    if len(taken & vault.counted) < needed:
        error = QuorumError(
            f"{len(taken & vault.counted)} of {len(nodes)} nodes turn away who came before, {needed} needed"
            f" ({vault.reasons(answers.errors)})"
        )
    under = evolve(
        vault,
        roster=decode_roster(encoded),
        roster_digest=roster_digest(encoded),
        counted=vault.counted & taken,
        returning=vault.returning & taken,
        rolled_back=vault.rolled_back & taken,
    )
    return under, error


def in_force(vault: Vault, turn: Turn) -> Operation[Vault]:
    """Return the vault as it is while its master key is rotated: closed where it may not be written."""
    closed = turn.stage is Stage.CLOSED
    if turn.stage is Stage.REMOVING:
        vault, error = yield from _succeeded(vault, turn.roster_epoch)
        closed = error is not None  # who reads the former generation still must not miss what is written
    return evolve(vault, others=(vault_keys(turn.master),), closed=closed)


def _took(reply: Reply, roster: bytes) -> bool:
    return isinstance(reply.response, messages.CreateReply) and reply.response.roster == roster


def settled(vault: Vault, encoded: bytes, members: Mapping[NodeId, Member]) -> Vault:
    """Return the vault with its roster and with what its nodes are under it."""
    nobody: frozenset[NodeId] = frozenset()
    bare = evolve(vault, counted=nobody, returning=nobody, rolled_back=nobody)
    return met(evolve(bare, roster=decode_roster(encoded), roster_digest=roster_digest(encoded)), members)


def met(vault: Vault, members: Mapping[NodeId, Member]) -> Vault:
    """Return the vault with what more of its nodes turned out to be under its roster.

    Those count that are ACTIVE. A NEW node that already has the roster took part in making the vault, so it
    counts as well.
    """

    def those_in(states: Collection[VaultState]) -> frozenset[NodeId]:
        digest = vault.roster_digest
        return frozenset(
            node
            for node, member in members.items()
            if member.state in states and member.roster and roster_digest(member.roster) == digest
        )

    return evolve(
        vault,
        counted=vault.counted | those_in(set(VaultState) - RETURNING),
        returning=vault.returning | those_in(RETURNING),
        rolled_back=vault.rolled_back | those_in({VaultState.QUARANTINED}),
    )


def joined(vault: Vault, nodes: frozenset[NodeId]) -> Vault:
    """Return the vault with nodes that were brought up to date and count again."""
    return evolve(
        vault,
        counted=vault.counted | nodes,
        returning=vault.returning - nodes,
        rolled_back=vault.rolled_back - nodes,
    )


def join(roster: bytes, nodes: Sequence[NodeId]) -> Operation[frozenset[NodeId]]:
    """Make NEW vaults without a roster JOINING, and return the nodes where that is so now."""
    answers = yield from ask([Send(node, node, messages.Join(roster)) for node in nodes])
    return frozenset(
        node
        for node, reply in answers.replies.items()
        if isinstance(reply.response, messages.StateReply) and reply.response.state in RETURNING
    )


def strangers_of(members: Mapping[NodeId, Member], roster: Roster) -> list[NodeId]:
    """Return the vault's nodes that know nothing of it: their disks are empty."""
    ids = {node.node_id for node in roster.nodes}
    return sorted(
        node
        for node, member in members.items()
        if node in ids and member.state is VaultState.NEW and not member.roster
    )


def quarantine(marks: Mapping[NodeId, int]) -> Operation[dict[NodeId, VaultState]]:
    """Tell nodes the marks they told once; returns the states of those that answer."""
    answers = yield from ask([Send(node, node, messages.Quarantine(mark)) for node, mark in marks.items()])
    return {
        node: reply.response.state
        for node, reply in answers.replies.items()
        if isinstance(reply.response, messages.StateReply)
    }


def make_roster(vault: Vault, wanted: bytes) -> Operation[bytes]:
    """Give all NEW nodes a roster and return it; of two who try at once, the node with the lowest id decides.

    Raises:
        NotInitialisedError: a node is missing or refused. ConflictError: the nodes have other rosters.
    """
    roster = wanted
    first, *rest = sorted(node.node_id for node in decode_roster(wanted).nodes)
    for nodes in ([first], rest):
        sends = [Send(node, node, messages.Create(roster)) for node in nodes]
        answers = yield from ask(sends)
        if answers.errors:
            raise NotInitialisedError(f"the vault cannot be made: {vault.reasons(answers.errors)}")
        kept = {
            reply.response.roster
            for reply in answers.replies.values()
            if isinstance(reply.response, messages.CreateReply)
        }
        if nodes == [first]:
            (roster,) = kept
        elif kept - {roster}:
            raise ConflictError(
                "another client is making this vault with another node list",
                next_step="Use one conf for all.",
            )
    return roster


@frozen
class OpenedWrap:
    """A wrap that opened: where it lies, the entry it is in, and what is in it.

    ``stale``: fewer than R nodes answered, so a newer one may be there.
    """

    register: RegisterKey
    entry: Entry = field(repr=False)
    master: bytes = field(repr=False)
    ring: Ring
    stale: bool = False


def find_wrap(vault: Vault, owner: Owner) -> Operation[OpenedWrap | None]:
    """Return the wrap under the owner's kek, None if the vault has none at all.

    ``vault`` needs roster and counted nodes only.

    Raises:
        SealedError: it was sealed with another password. QuorumError: too few nodes to say.
    """
    wrap_vault = evolve(vault, keys=vault_keys(owner.login.kek))
    places = [WRAP_REGISTER, wrap_register(owner.login.kek)]
    found = yield from read_registers(wrap_vault, places, any_of=True)
    context = owner.realm, owner.user, owner.kdf
    for place in reversed(places):
        entry = found[place].entry
        if entry is not None and entry.content:  # empty: the password was changed
            try:
                master, ring = open_wrapped(entry.content, owner.login.kek, context)
            except IntegrityError:
                raise sealed() from None
            return OpenedWrap(place, entry, master, ring, found[place].stale)
    if any(each.corrupt or each.entry is not None for each in found.values()):
        raise sealed()
    if any(each.stale for each in found.values()):
        raise QuorumError("too few nodes answer to open the vault")
    return None


def open_wrap(vault: Vault, owner: Owner) -> Operation[bytes | None]:
    """Return the master key, None if there is no wrap yet; otherwise as `find_wrap`."""
    found = yield from find_wrap(vault, owner)
    return None if found is None else found.master


def sealed() -> SealedError:
    """Return the error of a login that is right, with a key that opens no wrap."""
    return SealedError(
        "This vault was sealed with another password",
        kept="Nothing was changed.",
        next_step="Put the old password back in the conf, or see dfs key recover --help.",
    )


def make_wrap(vault: Vault, owner: Owner) -> Operation[bytes]:
    """Write the wrap of a fresh master key unless there is one, make the vault ACTIVE, and return the master
    key.

    Raises:
        QuorumError, UnknownOutcomeError: not written, or nobody knows; the next login reads again first.
    """
    wrap_vault = evolve(vault, keys=vault_keys(owner.login.kek))
    wrap = wrap_master(
        vault.entropy(MASTER_SIZE),
        owner.login.kek,
        vault.entropy(WRAP_NONCE_SIZE),
        owner.realm,
        owner.user,
        owner.kdf,
    )
    version = Version(vault.entropy(limits.OPERATION_ID_SIZE))
    entry = Entry("", EntryKind.FILE, version, size=len(wrap), content=wrap)

    def decide(current: Entry | None) -> Proposal | None:
        return Proposal(entry) if current is None or current.version == version else None

    outcome = (yield from change_registers(wrap_vault, [Change(WRAP_REGISTER, "", decide)]))[WRAP_REGISTER]
    if isinstance(outcome, DfsError) and not isinstance(outcome, UnknownOutcomeError):
        raise outcome
    master = yield from open_wrap(vault, owner)  # whoever's was chosen
    if master is None:
        raise QuorumError("the vault's key was written but is not there")
    yield from activate(vault, [node.node_id for node in vault.roster.nodes])
    return master


def activate(vault: Vault, nodes: Sequence[NodeId]) -> Operation[None]:
    """Make NEW vaults ACTIVE whose wrap is written; a node that misses it is told at the next login."""
    yield from ask([Send(node, node, messages.Activate(vault.roster_digest)) for node in nodes])
