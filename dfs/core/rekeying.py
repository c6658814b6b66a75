"""Changing what opens a vault: another password, recovery keys; pure operations on wraps and login keys.

A new wrap is written before any node is told of a new login key, and nothing is taken away before all nodes
have it, so that whoever stops in the middle has the old password or the new one. Why in this order:
docs/decisions/0011-passwords-change-one-node-at-a-time.md.
"""

from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import Final

from dfs.core import limits, messages
from dfs.core.auth import sign_rekey
from dfs.core.consensus import Change, Proposal, change_registers
from dfs.core.effects import Answers, Operation, Send, ask
from dfs.core.errors import ConfigError, ConflictError, DfsError
from dfs.core.keys import (
    KEY_FILE,
    WRAP_NONCE_SIZE,
    WRAP_REGISTER,
    LoginKeys,
    login_keys,
    vault_keys,
)
from dfs.core.reading import read_registers
from dfs.core.records import evolve
from dfs.core.transfer import Vault
from dfs.core.types import Entry, EntryKind, NodeId, RegisterKey, Version
from dfs.core.vaults import OpenedWrap, Owner
from dfs.core.wraps import KIN_COUNT_MAX, Kin, Ring, Stage, seal_wrap, wrap_register

CHANGED: Final = "the vault's passwords or its key were changed meanwhile, by another client"


def _entry(vault: Vault, content: bytes) -> Entry:
    version = Version(vault.entropy(limits.OPERATION_ID_SIZE))
    return Entry("", EntryKind.FILE, version, size=len(content), content=content)


def _write(
    vault: Vault, owner: Owner, place: RegisterKey, entry: Entry, before: Version | None
) -> Operation[None]:
    """Write an entry into a register under the owner's kek, over the version ``before`` (None: over any).

    Raises:
        ConflictError: another version is there. QuorumError, UnknownOutcomeError.
    """
    wrap_vault = evolve(vault, keys=vault_keys(owner.login.kek))

    def decide(current: Entry | None) -> Proposal | None:
        there = None if current is None else current.version
        if before is not None and there not in {before, entry.version}:
            raise ConflictError(CHANGED)
        return Proposal(entry)

    outcome = (yield from change_registers(wrap_vault, [Change(place, "", decide)]))[place]
    if isinstance(outcome, DfsError):
        raise outcome


def _wrap(vault: Vault, owner: Owner, master: bytes, ring: Ring) -> Entry:
    context = owner.realm, owner.user, owner.kdf
    return _entry(vault, seal_wrap(master, ring, owner.login.kek, vault.entropy(WRAP_NONCE_SIZE), context))


def rewrite(vault: Vault, owner: Owner, opened: OpenedWrap, ring: Ring) -> Operation[OpenedWrap]:
    """Give a wrap another ring. Raises: as `_write`."""
    entry = _wrap(vault, owner, opened.master, ring)
    yield from _write(vault, owner, opened.register, entry, opened.entry.version)
    return evolve(opened, entry=entry, ring=ring)


def empty(vault: Vault, keks: Iterable[bytes]) -> Operation[None]:
    """Empty every wrap under these keks. Raises: QuorumError, UnknownOutcomeError."""
    for kek in keks:
        wrap_vault = evolve(vault, keys=vault_keys(kek))
        found = yield from read_registers(wrap_vault, [WRAP_REGISTER, wrap_register(kek)])
        places = [place for place, each in found.items() if each.entry is not None and each.entry.content]
        entry = _entry(vault, b"")
        changes = [Change(place, "", lambda _current: Proposal(entry)) for place in places]  # noqa: B023
        for outcome in (yield from change_registers(wrap_vault, changes)).values():
            if isinstance(outcome, DfsError):
                raise outcome


def require_no_copy(ring: Ring) -> None:
    """Check that no copy under another master key is being made: a wrap that is written now would miss it.

    Raises:
        ConflictError: one is.
    """
    if ring.turn is not None and ring.turn.stage is not Stage.REMOVING:
        raise ConflictError(
            "the vault's key is being rotated", kept="Nothing was changed.", next_step="First: dfs key rotate"
        )


# --- Passwords ----------------------------------------------------------------------------------------------


def begin(vault: Vault, owner: Owner, opened: OpenedWrap, new: Owner) -> Operation[Ring]:
    """Write the wrap of a new password, which opens the vault from then on; returns its ring.

    The wrap of the present one notes first that a change was begun: the next one takes a later epoch, and
    removes the wrap of this one if it is never finished.

    Raises:
        ConfigError: it is the present one. ConflictError: another client changed it meanwhile, or the master
            key is being rotated.
        QuorumError, UnknownOutcomeError.
    """
    ring, kek = opened.ring, new.login.kek
    require_no_copy(ring)
    if compare_digest(kek, owner.login.kek):
        raise ConfigError("the new password is the old one", next_step="Choose another one.")
    epoch = ring.newest_epoch + 1
    others = tuple(kin for kin in ring.kin if not compare_digest(kin.kek, kek))
    yield from rewrite(vault, owner, opened, evolve(ring, kin=(*others, Kin(epoch, kek))))
    present = Kin(ring.epoch, owner.login.kek, owner.login.seed)
    after = evolve(ring, epoch=epoch, kin=(*others, present))
    yield from _write(vault, new, wrap_register(kek), _wrap(vault, new, opened.master, after), None)
    return after


def tell(owner: Owner, epoch: int, held: Mapping[NodeId, LoginKeys]) -> Operation[Answers]:
    """Tell nodes the owner's login key. ``held``: with which keys one is logged in at each.

    A node that has it already says so, and one whose users file has a password refuses (ForbiddenError).
    """
    sends = [
        Send(node, node, messages.Rekey(owner.login.public_key, epoch, _signature(owner, epoch, node, keys)))
        for node, keys in held.items()
    ]
    return (yield from ask(sends))


def catch_up(owner: Owner, epoch: int, held: Mapping[NodeId, LoginKeys]) -> Operation[Answers]:
    """Tell nodes the owner's login key, as `tell`, and that it is in use: a former one is over there.

    A node may have been told of another change from the same password, which then was not used anywhere: it
    takes a later epoch only.
    """
    answers = yield from tell(owner, epoch, held)
    for later in range(epoch + 1, epoch + 1 + KIN_COUNT_MAX):
        ahead = {node for node, error in answers.errors.items() if isinstance(error, ConflictError)}
        if not ahead:
            break
        again = yield from tell(owner, later, {node: held[node] for node in ahead})
        others = {node: error for node, error in answers.errors.items() if node not in ahead}
        answers = Answers({**answers.replies, **again.replies}, {**others, **again.errors})
    yield from tell(owner, epoch, dict.fromkeys(answers.replies, owner.login))
    return answers


def _signature(owner: Owner, epoch: int, node: NodeId, held: LoginKeys) -> bytes:
    return sign_rekey(
        held.seed,
        realm=owner.realm,
        user=owner.user,
        node_id=node,
        old=held.public_key,
        new=owner.login.public_key,
        epoch=epoch,
    )


def settle(vault: Vault, owner: Owner, opened: OpenedWrap) -> Operation[OpenedWrap]:
    """Remove the wraps of former passwords, and their login keys from the ring: all nodes have the new one.

    Raises:
        ConflictError: another change was begun. QuorumError, UnknownOutcomeError: the next login tries again.
    """
    ring = opened.ring
    yield from empty(vault, [kin.kek for kin in ring.kin if not compare_digest(kin.kek, owner.login.kek)])
    for kek in ring.further:
        yield from write_recovery(vault, owner, opened, kek)
    return (yield from rewrite(vault, owner, opened, evolve(ring, kin=())))


# --- Recovery keys ------------------------------------------------------------------------------------------


def recovery_owner(owner: Owner, secret: bytes) -> Owner:
    """Return who opens the wrap of a recovery key of 32 random bytes."""
    return evolve(owner, kdf=KEY_FILE, login=login_keys(secret))


def write_recovery(vault: Vault, owner: Owner, opened: OpenedWrap, kek: bytes) -> Operation[None]:
    """Write the wrap under the kek of a recovery key. Its ring names the present password, to be removed."""
    keeper = evolve(owner, kdf=KEY_FILE, login=LoginKeys(b"", kek, b""))
    ring = evolve(opened.ring, epoch=0, kin=(Kin(opened.ring.epoch, owner.login.kek),), further=())
    yield from _write(vault, keeper, wrap_register(kek), _wrap(vault, keeper, opened.master, ring), None)


def add_recovery(
    vault: Vault, owner: Owner, opened: OpenedWrap, secret: bytes, *, only: bool
) -> Operation[None]:
    """Let a recovery key of 32 random bytes open the vault. ``only``: no earlier one does so any more.

    Raises:
        ConfigError: there are too many. ConflictError: another client changed something meanwhile, or the
            master key is being rotated.
        QuorumError, UnknownOutcomeError.
    """
    require_no_copy(opened.ring)
    kek = recovery_owner(owner, secret).login.kek
    before = () if only else opened.ring.further
    ring = evolve(opened.ring, further=(*before, kek))
    if only:
        yield from empty(vault, opened.ring.further)
    after = yield from rewrite(vault, owner, opened, ring)
    yield from write_recovery(vault, owner, after, kek)


def recover(
    vault: Vault, owner: Owner, key: Owner, opened: OpenedWrap, *, is_recovery: bool
) -> Operation[None]:
    """Write the wrap of a password, ``owner``'s, with the master key that another ``key`` opened.

    The password in whose place it comes no longer opens the vault; a recovery key goes on doing so.

    Raises:
        QuorumError, UnknownOutcomeError: run it again.
    """
    former = {kin.kek for kin in opened.ring.kin} | (set() if is_recovery else {key.login.kek})
    further = (*opened.ring.further, *((key.login.kek,) if is_recovery else ()))
    ring = evolve(opened.ring, epoch=0, kin=(), further=further)
    entry = _wrap(vault, owner, opened.master, ring)
    yield from _write(vault, owner, wrap_register(owner.login.kek), entry, None)
    yield from empty(vault, sorted(former - {owner.login.kek}))
