"""The master key is rotated without a moment at which a file could be lost, wherever anybody stops."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pytest
from attrs import evolve

from dfs.core import messages, rekeying, vaults
from dfs.core.effects import Operation
from dfs.core.errors import (
    BusyError,
    ConflictError,
    DfsError,
    IncompleteError,
    QuorumError,
    SealedError,
    UnreachableError,
)
from dfs.core.floors import Floors
from dfs.core.folders import make_folder, remove_entries, stat, walk
from dfs.core.generations import view_of
from dfs.core.keys import KEY_FILE, WRAP_REGISTER, login_keys, vault_keys
from dfs.core.pipeline import Slot
from dfs.core.repairing import Scope, repair
from dfs.core.replaying import directories_of
from dfs.core.rotating import Plan, Rotated, Watch, abandon, generation, plan, rotate
from dfs.core.transfer import Vault
from dfs.core.types import EntryKind
from dfs.core.vaults import Member, OpenedWrap, Owner
from dfs.core.wraps import Kin, Ring, Stage
from tests.unit.histories import get, put
from tests.unit.world import Running, World

T = TypeVar("T")
OWNER = Owner("orchard", "ines", KEY_FILE, login_keys(b"\1" * 32))
SHEET = rekeying.recovery_owner(OWNER, b"r" * 32)
BODY = random.Random(4).randbytes(70_000)
FILES = {"note": b"short", "far/letter": BODY, "far/off/empty": b""}


class Home:
    """A world with a vault in it, and clients that open it as client.py does."""

    def __init__(self, seed: int = 1, *, files: dict[str, bytes] | None = None, node_count: int = 4) -> None:
        self.world = World(seed, node_count=node_count)
        self.first = self.world.run(vaults.make_wrap(self.world.vault(), OWNER))
        self.files: dict[str, bytes] = {}
        for path, body in (FILES if files is None else files).items():
            self.put(path, body)

    def open(self, owner: Owner = OWNER) -> tuple[Vault, OpenedWrap]:
        """Log in at the nodes that are up."""
        servers = [server for server in self.world.servers if server.up]
        members = {server.node_id: Member(server.vault.state, server.vault.roster) for server in servers}
        roster = vaults.current_roster(members)
        members = self.world.run(vaults.renew(roster, members))
        vault = vaults.settled(self.world.vault(), roster, members)
        found = self.world.run(vaults.find_wrap(vault, owner))
        assert found is not None
        if found.ring.turn is not None:
            vault = self.world.run(vaults.in_force(vault, found.ring.turn))
        return evolve(vault, keys=vault_keys(found.master), floors=Floors()), found

    def put(self, path: str, body: bytes) -> None:
        vault, _ = self.open()
        self.world.run(put(self.world, body, path, vault=vault))
        self.files[path] = body

    def remove(self, path: str) -> None:
        vault, _ = self.open()
        outcomes = self.world.run(remove_entries(vault, [path], kind=EntryKind.FILE))
        assert not isinstance(outcomes[path], DfsError)
        del self.files[path]

    def rotation(self, watch: Watch | None = None) -> Operation[Rotated]:
        vault, found = self.open()
        return rotate(vault, OWNER, found, [Slot(), Slot()], watch or Watch())

    def rotate(self, watch: Watch | None = None) -> Rotated:
        return self.world.run(self.rotation(watch))

    def stopped_after(self, steps: int) -> Running[Rotated]:
        """Rotate for so many steps of the world, then stop; what was sent arrives."""
        running = self.world.start(self.rotation())
        begun = self.world.step
        while running.ended is None and self.world.step - begun < steps:
            self.world.tick()
        self.world.crash(running)
        while self.world._events:
            self.world.tick()
        return running

    def there(self) -> dict[str, bytes]:
        """Every file that a client sees who comes now."""
        vault, _ = self.open()
        listed = self.world.run(walk(vault, ""))
        paths = [item.entry.path for item in listed if item.entry.kind is EntryKind.FILE]
        return {path: self.world.run(get(self.world, path, vault=vault))[1] for path in paths}

    def holds_anything_of(self, master: bytes) -> bool:
        """Whether any node still has an entry of a generation."""
        vault = generation(self.open()[0], master)
        known, _ = self.world.run(directories_of(vault))
        views = [self.world.run(view_of(vault, each)) for each in known - {WRAP_REGISTER.directory}]
        return any(view is not None for view in views)

    def up(self, *numbers: int) -> None:
        for number, server in enumerate(self.world.servers):
            server.up = number in numbers


def test_all_is_there_under_another_key_and_nothing_under_the_former_one() -> None:
    home = Home()
    before = {item.entry.path: item.entry for item in home.world.run(walk(home.open()[0], ""))}
    rotated = home.rotate()
    assert (rotated.generation, rotated.entries, rotated.left) == (2, 5, frozenset())
    assert rotated.size == sum(map(len, FILES.values()))
    assert home.there() == FILES
    vault, found = home.open()
    assert found.master != home.first
    assert (found.ring.generation, found.ring.turn) == (2, None)
    after = {item.entry.path: item.entry for item in home.world.run(walk(vault, ""))}
    assert {path: (each.version, each.mtime_ns, each.mode) for path, each in after.items()} == {
        path: (each.version, each.mtime_ns, each.mode) for path, each in before.items()
    }
    assert after["far/letter"].manifest != before["far/letter"].manifest
    assert not home.holds_anything_of(home.first)
    assert home.holds_anything_of(found.master)
    settled = home.world.run(repair(vault, Scope(), [Slot()], plan_only=True)).planned
    assert (settled.registers, settled.shares) == (0, 0)
    assert not vault.suspicions
    assert home.rotate().generation == 3
    assert home.there() == FILES


def test_what_would_be_done_is_said_and_nothing_is_done() -> None:
    home = Home()
    vault, found = home.open()
    assert home.world.run(plan(vault, found)) == Plan(None, 2, 3, sum(map(len, FILES.values())), 3)
    assert home.open()[1].ring == found.ring
    home.stopped_after(120)
    vault, found = home.open()
    begun = home.world.run(plan(vault, found))
    assert begun.stage is not None
    assert begun.generation == 2


@pytest.mark.parametrize(
    "part", [*range(2), *(pytest.param(each, marks=pytest.mark.long) for each in range(2, 48))]
)
def test_wherever_it_stops_all_files_are_there_and_a_second_run_ends_it(part: int) -> None:
    whole = Home()
    begun = whole.world.step
    whole.rotate()
    stages = set()
    for place in range(part, whole.world.step - begun, 48):
        home = Home()
        home.stopped_after(place)
        if place % 3 == 0:
            for server in home.world.servers:
                server.restart()
        assert home.there() == home.files, f"after {place} steps"
        vault, found = home.open()
        stages.add(found.ring.turn.stage if found.ring.turn is not None else None)
        if vault.closed:
            with pytest.raises(BusyError, match="rotated"):
                home.put("new", b"new")
        else:
            home.put("new", b"new")
            home.remove("note")
        assert home.rotate().left == frozenset()
        assert home.there() == home.files, f"after {place} steps and a second run"
        assert home.open()[1].ring.turn is None
        assert not home.holds_anything_of(home.first)
        assert not home.open()[0].suspicions
    assert stages >= {Stage.COPYING, Stage.REMOVING}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_gets_lost_all_files_stay(seed: int) -> None:
    home = Home(seed)
    home.world.loss = 0.08
    with suppress(DfsError):
        home.rotate()
    home.world.loss = 0.0
    assert home.there() == home.files
    home.rotate()
    assert home.there() == home.files
    assert not home.holds_anything_of(home.first)


def test_a_node_that_is_away_is_named_and_catches_up() -> None:
    home = Home()
    home.up(0, 1, 2)
    away = home.world.servers[3].node_id
    assert home.rotate().left == {away}
    home.put("new", BODY[:40_000])
    assert home.there() == home.files
    assert home.rotate().left == {away}
    home.up(0, 1, 2, 3)
    vault, found = home.open()
    assert found.ring.turn is not None
    assert away in vault.counted  # it was told of the epoch
    repaired = home.world.run(repair(vault, Scope(), [Slot()]))
    assert not repaired.left
    assert not vault.suspicions
    assert home.rotate().left == frozenset()
    assert not home.holds_anything_of(home.first)
    home.up(1, 2, 3)
    assert home.there() == home.files
    assert home.open()[1].ring.turn is None


def test_with_too_few_nodes_nothing_begins() -> None:
    home = Home()
    home.up(0, 1)
    with pytest.raises(QuorumError):
        home.rotate()
    home.up(0, 1, 2, 3)
    assert home.open()[1].ring.turn is None


def test_who_opened_the_vault_before_is_turned_away() -> None:
    home = Home()
    old, _ = home.open()
    home.rotate()
    with pytest.raises(QuorumError, match="another roster"):
        home.world.run(put(home.world, b"late", "late", vault=old))
    with pytest.raises(QuorumError, match="another roster"):
        home.world.run(get(home.world, "note", vault=old))
    with pytest.raises(QuorumError, match="another roster"):
        home.world.run(make_folder(old, "late"))
    assert home.there() == home.files
    assert not home.holds_anything_of(home.first)


def at(stage: Stage, act: Callable[[], object]) -> Watch:
    """Do something once, when a stage begins."""
    waiting = [act]

    def begins(now: Stage) -> None:
        if now is stage and waiting:
            waiting.pop()()

    return Watch(stage=begins)


def test_who_works_while_it_is_copied_loses_nothing() -> None:
    home = Home()
    home.stopped_after(150)
    assert home.open()[1].ring.turn.stage is Stage.COPYING  # type: ignore[union-attr]
    home.put("far/letter", BODY[::-1])
    home.remove("note")
    home.put("more", BODY[:5000])
    home.rotate()
    assert home.there() == home.files


def test_a_writer_of_before_does_not_get_through_while_the_rest_is_copied() -> None:
    home = Home()
    old, _ = home.open()
    said: list[str] = []

    def write() -> None:
        running = home.world.start(put(home.world, b"late", "late", vault=old))
        home.world.settle([running])
        said.append(type(running.error).__name__)

    home.rotate(at(Stage.REMOVING, write))
    assert said == ["QuorumError"]
    assert home.there() == home.files


def test_a_reader_of_before_the_switch_is_turned_away_after_it() -> None:
    """Else it would go on reading what is there no more, while others write."""
    home = Home()
    readers: list[Vault] = []

    def open_it() -> None:
        home.world.run(vaults.succeed(home.open()[0], 2))
        readers.append(home.open()[0])
        assert readers[0].closed
        assert home.world.run(get(home.world, "note", vault=readers[0]))[1] == b"short"

    home.rotate(at(Stage.CLOSED, open_it))
    with pytest.raises(QuorumError, match="another roster"):
        home.world.run(get(home.world, "note", vault=readers[0]))


def test_a_put_under_way_when_writing_ends_is_whole_or_not_there() -> None:
    outcomes = set()
    for wait in range(100, 500, 25):
        home = Home(wait)
        old, _ = home.open()
        rotation = home.world.start(home.rotation())
        for _ in range(wait):
            if rotation.ended is None:
                home.world.tick()
        writer = home.world.start(put(home.world, BODY[:30_000], "race", vault=old))
        home.world.settle([writer, rotation])
        home.rotate()
        there = home.there()
        outcomes.add((writer.error is None, "race" in there))
        assert there.get("race", BODY[:30_000]) == BODY[:30_000]
        there.pop("race", None)
        assert there == home.files
    assert {(True, True), (False, False)} <= outcomes
    assert (True, False) not in outcomes


def test_what_fails_at_the_end_lets_everybody_write_again() -> None:
    home = Home()

    def hide() -> None:
        for server in home.world.servers[:2]:
            server.refuses = {messages.List: UnreachableError("its disk is slow")}

    with pytest.raises(QuorumError) as caught:
        home.rotate(at(Stage.CLOSED, hide))
    assert caught.value.what
    for server in home.world.servers:
        server.refuses = {}
    assert home.open()[1].ring.turn.stage is Stage.COPYING  # type: ignore[union-attr]
    home.put("again", b"again")
    home.rotate()
    assert home.there() == home.files


def test_where_nobody_can_be_told_that_it_failed_the_vault_stays_closed() -> None:
    home = Home()
    with pytest.raises(QuorumError):
        home.rotate(at(Stage.CLOSED, lambda: home.up(0, 1)))
    home.up(0, 1, 2, 3)
    with pytest.raises(BusyError, match="can be read, not written"):
        home.put("again", b"again")
    assert home.there() == home.files
    home.rotate()
    home.put("again", b"again")
    assert home.there() == home.files


def test_a_file_that_cannot_be_read_stops_it_before_anybody_has_to_wait() -> None:
    home = Home()
    for server in home.world.servers[:3]:
        server.refuses = {messages.Fetch: UnreachableError("its disk failed")}
    with pytest.raises(IncompleteError, match="far/letter cannot be copied") as caught:
        home.rotate()
    assert "keeps the key it has" in caught.value.kept
    for server in home.world.servers:
        server.refuses = {}
    assert home.open()[1].ring.turn.stage is Stage.COPYING  # type: ignore[union-attr]
    home.put("new", b"new")
    home.rotate()
    assert home.there() == home.files


def test_a_removed_file_does_not_come_back_with_a_node_that_has_an_early_copy() -> None:
    """The copy reached one node, which goes away; the file is removed; the node comes back later."""
    home = Home(files={"note": b"short"})
    *others, third = home.world.servers

    def keep_out() -> None:
        for server in others:
            server.refuses = {messages.Accept: UnreachableError("slow")}

    with pytest.raises(DfsError):
        home.rotate(at(Stage.COPYING, keep_out))
    for server in others:
        server.refuses = {}
    turn = home.open()[1].ring.turn
    assert turn is not None
    assert home.holds_anything_of(turn.master)
    third.up = False
    home.remove("note")
    assert home.rotate().left == {third.node_id}
    third.up = True
    assert home.there() == {}
    home.rotate()
    assert home.there() == {}


@pytest.mark.parametrize("place", range(60, 420, 60))
def test_an_unfinished_copy_can_be_given_up(place: int) -> None:
    home = Home()
    home.stopped_after(place)
    vault, found = home.open()
    turn = found.ring.turn
    assert turn is not None
    if turn.stage is Stage.REMOVING:
        with pytest.raises(ConflictError, match="in force already"):
            home.world.run(abandon(vault, OWNER, found))
        return
    assert home.world.run(abandon(vault, OWNER, found)) == frozenset()
    assert home.open()[1].ring == Ring()
    assert not home.holds_anything_of(turn.master)
    home.put("new", b"new")
    assert home.there() == home.files
    with pytest.raises(ConflictError, match="no rotation is under way"):
        home.world.run(abandon(*with_owner(home)))
    home.rotate()
    assert home.there() == home.files


def with_owner(home: Home) -> tuple[Vault, Owner, OpenedWrap]:
    vault, found = home.open()
    return vault, OWNER, found


def test_who_copies_on_is_turned_away_when_it_is_given_up() -> None:
    home = Home()
    running = home.world.start(home.rotation())
    for _ in range(100):
        home.world.tick()
    home.world.run(abandon(*with_owner(home)))
    home.world.settle([running])
    assert isinstance(running.error, (QuorumError, ConflictError))
    assert home.open()[1].ring == Ring()
    assert home.there() == home.files


def test_a_node_that_is_away_keeps_a_copy_until_it_is_given_up_once_more() -> None:
    home = Home()
    home.stopped_after(200)
    home.up(0, 1, 2)
    assert home.world.run(abandon(*with_owner(home))) == {home.world.servers[3].node_id}
    home.up(0, 1, 2, 3)
    assert home.there() == home.files
    assert home.world.run(abandon(*with_owner(home))) == frozenset()
    assert home.open()[1].ring == Ring()


def test_an_unfinished_change_of_the_password_goes_first() -> None:
    home = Home()
    vault, found = home.open()
    ring = evolve(found.ring, kin=(Kin(1, b"k" * 32, b"s" * 32),))
    home.world.run(rekeying.rewrite(vault, OWNER, found, ring))
    with pytest.raises(ConflictError, match="password is not known to all nodes"):
        home.rotate()


def test_a_password_and_a_sheet_wait_for_the_copy() -> None:
    home = Home()
    home.stopped_after(100)
    vault, found = home.open()
    new = evolve(OWNER, login=login_keys(b"\2" * 32))
    with pytest.raises(ConflictError, match="being rotated"):
        home.world.run(rekeying.begin(vault, OWNER, found, new))
    with pytest.raises(ConflictError, match="being rotated"):
        home.world.run(rekeying.add_recovery(vault, OWNER, found, b"r" * 32, only=False))


def test_sheets_of_before_open_nothing_any_more() -> None:
    home = Home()
    vault, found = home.open()
    home.world.run(rekeying.add_recovery(vault, OWNER, found, b"r" * 32, only=False))
    assert home.open(SHEET)[1].master == home.first
    home.rotate()
    with pytest.raises(SealedError):
        home.open(SHEET)
    vault, found = home.open()
    assert found.ring.further == ()
    home.world.run(rekeying.add_recovery(vault, OWNER, found, b"q" * 32, only=False))
    sheet = home.open(rekeying.recovery_owner(OWNER, b"q" * 32))[1]
    assert (sheet.master, sheet.ring.generation) == (found.master, 2)


@pytest.mark.parametrize("how", ["it failed", "it was killed and given up"])
def test_sheets_open_the_vault_again_that_keeps_its_key(how: str) -> None:
    home = Home()
    vault, found = home.open()
    home.world.run(rekeying.add_recovery(vault, OWNER, found, b"r" * 32, only=False))
    if how == "it failed":
        with pytest.raises(QuorumError):
            home.rotate(at(Stage.CLOSED, lambda: hide(home)))
        for server in home.world.servers:
            server.refuses = {}
    else:
        home.stopped_after(200)
        home.world.run(
            rekeying.empty(home.world.vault(), [SHEET.login.kek])
        )  # the last thing before the switch
        home.world.run(abandon(*with_owner(home)))
        assert home.open()[1].ring == Ring(further=(SHEET.login.kek,))
    assert home.open(SHEET)[1].master == home.first


def hide(home: Home) -> None:
    for server in home.world.servers[:2]:
        server.refuses = {messages.List: UnreachableError("its disk is slow")}


def test_of_two_rotations_at_once_one_ends_and_the_other_is_told() -> None:
    home = Home(3)
    runnings = [home.world.start(home.rotation()) for _ in range(2)]
    home.world.settle(runnings)
    errors = [running.error for running in runnings if running.error is not None]
    assert all(isinstance(error, (ConflictError, QuorumError)) for error in errors)
    assert home.rotate().left == frozenset()
    assert home.there() == home.files


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_it_needs_no_certain_number_of_nodes(count: int) -> None:
    home = Home(node_count=count)
    assert home.rotate().left == frozenset()
    assert home.there() == home.files


def test_versions_stay_so_a_condition_of_before_still_holds() -> None:
    home = Home()
    before = home.world.run(stat(home.open()[0], "note")).entry.version
    home.rotate()
    vault, _ = home.open()
    outcome = home.world.run(put(home.world, b"other", "note", vault=vault, if_version=before))
    assert outcome.version != before
