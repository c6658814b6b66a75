"""Rotation of the master key: a new generation beside the present one, which then takes its place.

The copy is made while everybody works on. Then nobody writes until what came since is copied too, one write
of the wrap makes the new generation the vault's, and the former one is removed. Whoever opened the vault
before is turned away by the nodes, since the roster has a later epoch then. It may stop anywhere and be run
again.
Why in this order: docs/decisions/0015-a-rotation-copies-beside-what-is-there.md.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from dfs.core import rekeying, vaults
from dfs.core.copying import Copied, Pending, bury, copy, pending
from dfs.core.effects import Operation
from dfs.core.errors import ConflictError, DfsError, IncompleteError, QuorumError, UnknownOutcomeError
from dfs.core.floors import Floors
from dfs.core.folders import remove_folder, walk
from dfs.core.generations import view_of
from dfs.core.keys import MASTER_SIZE, WRAP_REGISTER, directory_id, vault_keys
from dfs.core.limits import MIB
from dfs.core.paths import printable
from dfs.core.pipeline import Slot
from dfs.core.reading import list_page
from dfs.core.records import evolve, frozen
from dfs.core.replaying import directories_of, replay, survey
from dfs.core.transfer import Vault
from dfs.core.types import DirectoryId, EntryKind, NodeId
from dfs.core.vaults import OpenedWrap, Owner
from dfs.core.wraps import Ring, Stage, Turn

PASS_COUNT: Final = 4  # copies while others write, at most; each has less to do than the one before
REST_COUNT: Final = 16  # entries, and
REST_SIZE: Final = 64 * MIB  # bytes, that may be left when writing stops


@frozen
class Plan:
    """What a rotation has before it. ``stage``: of one that was begun, else None. ``files``, ``size``: to
    copy, ``total``: all files of the vault.
    """

    stage: Stage | None
    generation: int
    files: int
    size: int
    total: int


@frozen
class Rotated:
    """What came of it. ``entries``, ``size``: copied by this run. ``left``: nodes that may still hold
    something of the former generation.
    """

    generation: int
    entries: int
    size: int
    left: frozenset[NodeId] = frozenset()


@frozen
class Watch:
    """Who is told how it goes: of each stage as it begins, and of plain bytes copied."""

    stage: Callable[[Stage], object] = lambda _stage: None
    progress: Callable[[int], object] = lambda _size: None


@frozen
class _Work:
    """What a rotation works on and with."""

    owner: Owner
    slots: Sequence[Slot]
    watch: Watch
    copied: Copied


def generation(vault: Vault, master: bytes) -> Vault:
    """Return the view of a generation; nobody remembers anything of its paths yet."""
    return evolve(vault, keys=vault_keys(master), floors=Floors(), others=(), closed=False)


def plan(vault: Vault, opened: OpenedWrap) -> Operation[Plan]:
    """Return what `rotate` would do. Raises: as `copying.pending`."""
    turn = opened.ring.turn
    if turn is not None and turn.stage is Stage.REMOVING:
        return Plan(turn.stage, opened.ring.generation, 0, 0, 0)
    master = vault.entropy(MASTER_SIZE) if turn is None else turn.master
    todo = yield from pending(generation(vault, opened.master), generation(vault, master))
    stage = None if turn is None else turn.stage
    return Plan(stage, opened.ring.generation + 1, len(todo.files), todo.size, todo.total)


def rotate(
    vault: Vault, owner: Owner, opened: OpenedWrap, slots: Sequence[Slot], watch: Watch
) -> Operation[Rotated]:
    """Rotate the master key, or go on with a rotation that was begun.

    Raises:
        ConflictError: a change of the password is not finished, or another client was quicker.
        IncompleteError: a file cannot be read, so it cannot be copied. QuorumError, SpaceError: the present
            generation stays the vault's, and is written again. UnknownOutcomeError: run it again.
    """
    if opened.ring.kin:
        raise ConflictError(
            "a change of the password is not known to all nodes yet",
            kept="Nothing was changed.",
            next_step="Start all nodes, run dfs status, then rotate the key.",
        )
    vault = evolve(vault, closed=False)
    work = _Work(owner, slots, watch, Copied())
    if opened.ring.turn is None:
        opened = yield from _turned(vault, work, opened, Turn(Stage.COPYING, 0, vault.entropy(MASTER_SIZE)))
    if _stage(opened) is Stage.COPYING:
        watch.stage(Stage.COPYING)
        yield from _copy_beside(vault, work, opened)
        turn = Turn(Stage.CLOSED, vault.roster.epoch + 1, _other(opened))
        opened = yield from _turned(vault, work, opened, turn)
    if _stage(opened) is Stage.CLOSED:
        watch.stage(Stage.CLOSED)
        vault, opened = yield from _close(vault, work, opened)
    watch.stage(Stage.REMOVING)
    vault = yield from vaults.succeed(vault, _turn(opened).roster_epoch)
    left = yield from _remove(generation(vault, _other(opened)), generation(vault, opened.master))
    if not left:
        opened = yield from rekeying.rewrite(vault, owner, opened, evolve(opened.ring, turn=None))
    return Rotated(opened.ring.generation, work.copied.entries, work.copied.size, left)


def abandon(vault: Vault, owner: Owner, opened: OpenedWrap) -> Operation[frozenset[NodeId]]:
    """Remove the copy of a rotation whose key is not in force yet; returns nodes that may hold some of it.

    While there are such nodes the rotation stays begun, to be abandoned again or to go on.

    Raises:
        ConflictError: there is nothing to abandon, or no way back. QuorumError, UnknownOutcomeError.
    """
    turn = opened.ring.turn
    if turn is None or turn.stage is Stage.REMOVING:
        raise ConflictError(
            "no rotation is under way" if turn is None else "the new key is in force already",
            kept="Nothing was changed.",
            next_step="" if turn is None else "To remove what is under the former one: dfs key rotate",
        )
    vault = evolve(vault, closed=False)
    vault = yield from vaults.succeed(vault, vault.roster.epoch + 1)  # whoever still copies is turned away
    left = yield from _remove(generation(vault, turn.master), generation(vault, opened.master))
    after = evolve(opened.ring, turn=Turn(Stage.COPYING, 0, turn.master) if left else None)
    yield from _go_back(vault, owner, opened, after)
    return left


def _go_back(vault: Vault, owner: Owner, opened: OpenedWrap, ring: Ring) -> Operation[None]:
    """Keep the present key, and let recovery sheets open it again whose wraps may be empty already."""
    opened = yield from rekeying.rewrite(vault, owner, opened, ring)
    for kek in ring.further:
        yield from rekeying.write_recovery(vault, owner, opened, kek)


def _turn(opened: OpenedWrap) -> Turn:
    turn = opened.ring.turn
    if turn is None:  # another client ended it
        raise ConflictError(rekeying.CHANGED)
    return turn


def _stage(opened: OpenedWrap) -> Stage:
    return _turn(opened).stage


def _other(opened: OpenedWrap) -> bytes:
    return _turn(opened).master


def _turned(vault: Vault, work: _Work, opened: OpenedWrap, turn: Turn) -> Operation[OpenedWrap]:
    return (yield from rekeying.rewrite(vault, work.owner, opened, evolve(opened.ring, turn=turn)))


# --- Copying ------------------------------------------------------------------------------------------------


def _pass(
    vault: Vault, work: _Work, opened: OpenedWrap, *, burying: bool
) -> Operation[tuple[Pending, Copied]]:
    """Copy what is pending; returns what was, and what became of it."""
    source, target = generation(vault, opened.master), generation(vault, _other(opened))
    todo = yield from pending(source, target)
    done = yield from copy(source, target, todo, work.slots, work.watch.progress)
    if burying:
        yield from bury(target, todo.unwanted)
    work.copied.entries += done.entries
    work.copied.size += done.size
    return todo, done


def _copy_beside(vault: Vault, work: _Work, opened: OpenedWrap) -> Operation[None]:
    """Copy while others write, until little is left. Raises: what kept a file from being copied."""
    done = Copied()
    for _ in range(PASS_COUNT):
        todo, done = yield from _pass(vault, work, opened, burying=False)
        if not done.failed and len(todo.files) <= REST_COUNT and todo.size <= REST_SIZE:
            return
    _require_all(done)


def _require_all(done: Copied) -> None:
    if done.failed:
        path, error = min(done.failed.items())
        more = f", and {len(done.failed) - 1} more files" if len(done.failed) > 1 else ""
        raise IncompleteError(
            f"{printable(path)}{more} cannot be copied: {getattr(error, 'what', error)}",
            kept="The vault keeps the key it has.",
            next_step="Bring its nodes back, or remove the file; then: dfs key rotate",
        )


def _close(vault: Vault, work: _Work, opened: OpenedWrap) -> Operation[tuple[Vault, OpenedWrap]]:
    """Copy the rest while nobody writes, then make the new generation the vault's.

    What fails before that opens the vault again for writing.
    """
    turn, ring = _turn(opened), opened.ring
    try:
        vault = yield from vaults.succeed(vault, turn.roster_epoch)
        yield from _copy_rest(vault, work, opened)
        yield from rekeying.empty(vault, ring.further)
        after = Turn(Stage.REMOVING, vault.roster.epoch + 1, opened.master)
        ring_after = evolve(ring, generation=ring.generation + 1, further=(), turn=after)
        switched = evolve(opened, master=turn.master)
        return vault, (yield from rekeying.rewrite(vault, work.owner, switched, ring_after))
    except UnknownOutcomeError:
        raise
    except DfsError:
        with suppress(DfsError):  # then it is said when somebody wants to write
            again = evolve(opened.ring, turn=Turn(Stage.COPYING, 0, turn.master))
            yield from _go_back(vault, work.owner, opened, again)
        raise


def _copy_rest(vault: Vault, work: _Work, opened: OpenedWrap) -> Operation[None]:
    """Copy until the copy is whole. Raises: what keeps it from being so."""
    for _ in range(PASS_COUNT):
        todo, done = yield from _pass(vault, work, opened, burying=True)
        _require_all(done)
        if todo.is_done:
            return
    raise QuorumError(
        "the copy cannot be made whole now: too few nodes answer", kept="The vault keeps the key it has."
    )


# --- Removing -----------------------------------------------------------------------------------------------


def _remove(former: Vault, present: Vault) -> Operation[frozenset[NodeId]]:
    """Remove the former generation; returns the nodes that may hold something of it still."""
    yield from remove_folder(former, "")
    below = yield from walk(present, "")
    folders = ["", *(item.entry.path for item in below if item.entry.kind is EntryKind.FOLDER)]
    ours = {WRAP_REGISTER.directory, *(directory_id(present.keys, folder) for folder in folders)}
    left: frozenset[NodeId] = frozenset()
    for _ in range(PASS_COUNT):  # tombstones: told to who lacks them, then forgotten
        known, told = yield from directories_of(former)
        there: set[NodeId] = set()
        for directory in sorted(known - ours):
            holders = yield from _holders(former, directory)
            if holders:
                found = yield from survey(former, directory)
                yield from replay(former, found)
            there |= holders
        silent = {node.node_id for node in former.roster.nodes} - told.keys()
        away = silent | former.returning  # while they are, the others keep tombstones for them
        left = frozenset(away or there)
        if away or not there:
            break
    return left


def _holders(former: Vault, directory: DirectoryId) -> Operation[set[NodeId]]:
    """Return the nodes with rows in a directory, if it is one of the former generation."""
    if (yield from view_of(former, directory)) is None:
        return set()
    page = yield from list_page(former, former.group(directory), directory, b"")
    return {
        node
        for states in page.rows.values()
        for node, state in states.items()
        if state.row is not None and state.row.accepted
    }
