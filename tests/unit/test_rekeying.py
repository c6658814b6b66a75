"""A password changes without a moment at which neither the old nor the new one opens the vault."""

from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import pytest
from attrs import evolve

from dfs.core import messages, rekeying
from dfs.core.auth import keys_in_force
from dfs.core.effects import Operation
from dfs.core.errors import (
    ConfigError,
    ConflictError,
    DfsError,
    LoginError,
    QuorumError,
    SealedError,
)
from dfs.core.keys import KEY_FILE, WRAP_REGISTER, LoginKeys, login_keys, vault_keys, wrap_master
from dfs.core.node import Answer
from dfs.core.reading import read_registers
from dfs.core.transfer import Vault
from dfs.core.types import NodeId
from dfs.core.vaults import OpenedWrap, Owner, find_wrap, make_wrap
from dfs.core.wraps import Ring, keys_of, wrap_register
from tests.unit.world import Running, Server, World

T = TypeVar("T")
Deeds: TypeAlias = Generator[Operation[Any], None, T]

OLD, NEW, THIRD = (
    Owner("orchard", "ines", KEY_FILE, login_keys(bytes((number,)) * 32)) for number in (1, 2, 3)
)
LINE = OLD.login.public_key  # what the users files say


class Door:
    """What stands before a node: who is logged in, if anybody."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.held: LoginKeys | None = None
        self.signer = b""
        self.inside = server.answer
        server.answer = self.answer  # type: ignore[method-assign]

    @property
    def known(self) -> tuple[bytes, ...]:
        return keys_in_force(LINE, self.server.vault.rekeyed)

    def log_in(self, keys: LoginKeys) -> bool:
        if not self.server.up or keys.public_key not in self.known:
            return False
        self.held, self.signer = keys, keys.public_key
        self.server.vault.logged_in(LINE, keys.public_key)
        return True

    def answer(self, request: messages.Request, bulk: bytes) -> Answer:
        if self.held is None or self.signer not in self.known:
            raise LoginError("who are you?")
        if isinstance(request, messages.Rekey):
            signer, vault = self.signer, self.server.vault
            answer = vault.rekey(request, line=LINE, signer=signer, realm="orchard", user="ines")
            self.signer = request.public_key
            return answer
        return self.inside(request, bulk)


class House:
    """Four nodes with doors, and what clients do at them one after the other."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.doors = {server.node_id: Door(server) for server in self.world.servers}
        self.knock(OLD.login)
        self.master = self.world.run(make_wrap(self.world.vault(), OLD))
        self.steps = 0

    def knock(self, keys: LoginKeys) -> dict[NodeId, LoginKeys]:
        for door in self.doors.values():
            door.held = None
        return {node: keys for node, door in self.doors.items() if door.log_in(keys)}

    def vault(self, held: dict[NodeId, LoginKeys]) -> Vault:
        return evolve(self.world.vault(), counted=frozenset(held))

    def enter(self, owner: Owner) -> Deeds[None]:
        """Yield what a client does at its login, operation by operation, as client.py does."""
        held = self.knock(owner.login)
        if not held:
            raise LoginError("nobody knows this login")
        found = yield from _result(find_wrap(self.vault(held), owner))
        assert found is not None
        if not found.ring.kin:
            return
        lagging: dict[NodeId, LoginKeys] = {}
        for kin in found.ring.former:
            keys = keys_of(kin)
            lagging |= {node: keys for node in self.doors.keys() - held.keys() - lagging.keys()
                        if self.doors[node].log_in(keys)}  # fmt: skip
        told = yield from _result(rekeying.catch_up(owner, found.ring.epoch, lagging))
        knowing = held.keys() | told.replies.keys()
        if len(knowing) == 4 and all(kin.epoch < found.ring.epoch for kin in found.ring.kin):
            yield from _result(rekeying.settle(self.vault(held | lagging), owner, found))

    def change(self, old: Owner, new: Owner) -> Deeds[None]:
        """Yield what `dfs passwd` does, operation by operation."""
        yield from self.enter(old)
        held = {node: door.held for node, door in self.doors.items() if door.held is not None}
        vault = self.vault(held)
        found = yield from _result(find_wrap(vault, old))
        assert found is not None
        ring = yield from _result(rekeying.begin(vault, old, found, new))
        told = yield from _result(rekeying.tell(new, ring.epoch, held))
        if len(told.replies) < 3:
            raise QuorumError("too few take it")
        yield from self.enter(new)

    def perform(self, deeds: Deeds[None], step_max: int | None = None) -> bool:
        """Do it all, or stop after so many steps of the world; returns whether it came to its end."""
        begun = self.world.step
        for operation in deeds:
            running: Running[Any] = self.world.start(operation)
            while running.ended is None:
                if step_max is not None and self.world.step - begun >= step_max:
                    self.world.crash(running)
                    self.calm()
                    return False
                self.world.tick()
            if running.error is not None:
                raise running.error
        self.steps = self.world.step - begun
        return True

    def calm(self) -> None:
        """Let what was sent arrive."""
        while self.world._events:
            self.world.tick()

    def opens(self, owner: Owner) -> bool:
        """Whether a password still gives what a client needs: R nodes, and the master key."""
        with suppress(LoginError, QuorumError):
            self.perform(self.enter(owner))
            held = {node: owner.login for node, door in self.doors.items() if door.held is not None}
            found = self.world.run(find_wrap(self.vault(held), owner))
            return found is not None and found.master == self.master and len(held) >= 3
        return False

    def wrap(self, owner: Owner) -> OpenedWrap | None:
        """The wrap of a password as a thief of all nodes would read it."""
        for door in self.doors.values():
            door.held = OLD.login if OLD.login.public_key in door.known else None
        open_vault = self.world.vault()
        for door in self.doors.values():
            door.server.answer = door.inside  # type: ignore[method-assign]
        try:
            return self.world.run(find_wrap(open_vault, owner))
        except SealedError:
            return None
        finally:
            for door in self.doors.values():
                door.server.answer = door.answer  # type: ignore[method-assign]


def _result(operation: Operation[T]) -> Deeds[T]:
    """Yield an operation to whoever performs it, and return its result."""
    kept: list[T] = []

    def keeping() -> Operation[None]:
        kept.append((yield from operation))

    yield keeping()
    return kept[0]


def test_a_password_is_changed_and_the_old_one_is_over() -> None:
    house = House(1)
    house.perform(house.change(OLD, NEW))
    assert house.opens(NEW)
    assert not house.knock(OLD.login)
    assert house.wrap(OLD) is None
    found = house.wrap(NEW)
    assert found is not None
    assert (found.master, found.ring) == (house.master, Ring(1))
    house.perform(house.change(NEW, OLD))  # and back
    assert house.opens(OLD)
    assert house.wrap(NEW) is None


def crash_places() -> range:
    house = House(1)
    house.perform(house.change(OLD, NEW))
    return range(house.steps)


@pytest.mark.parametrize("away", [None, 3], ids=["all nodes", "one away"])
def test_wherever_a_client_stops_the_old_or_the_new_password_works(away: int | None) -> None:
    seen = set()
    for place in crash_places():
        house = House(1)
        if away is not None:
            house.world.servers[away].up = False
        house.perform(house.change(OLD, NEW), place)
        if place % 2:  # and the nodes start again from what they have on disk
            for server in house.world.servers:
                if server.up:
                    server.restart()
        if away is not None and place % 3:
            house.world.servers[away].up = True
        owner = OLD if house.opens(OLD) else NEW
        assert house.opens(owner), f"neither works after {place} steps"
        seen.add(owner.login.public_key)
        house.world.servers[3].up = True
        house.perform(house.change(owner, THIRD))
        assert house.opens(THIRD)
        assert [door.known for door in house.doors.values()] == [(THIRD.login.public_key,)] * 4
        assert (house.wrap(OLD), house.wrap(NEW)) == (None, None), f"left over after {place} steps"
    assert len(seen) == 2


def test_and_still_works_when_a_node_dies_afterwards() -> None:
    """With both keys good for a while: a node that took the new key at once could leave neither working."""
    for seed in range(80):
        for dead in range(4):
            house = House(seed)
            house.world.loss = 0.1
            with suppress(DfsError):
                house.perform(house.change(OLD, NEW), 40 + 2 * seed % 120)
            house.world.loss = 0.0
            house.calm()
            house.world.servers[dead].up = False
            assert house.opens(OLD) or house.opens(NEW), f"neither works with seed {seed} without {dead}"


def test_wherever_messages_are_lost_the_old_or_the_new_password_works() -> None:
    for seed in range(25):
        house = House(seed)
        house.world.loss = 0.15
        with suppress(DfsError):
            house.perform(house.change(OLD, NEW))
        house.world.loss = 0.0
        house.calm()
        owner = OLD if house.opens(OLD) else NEW
        assert house.opens(owner), f"neither works with seed {seed}"
        house.perform(house.change(owner, THIRD))
        assert house.opens(THIRD)


def test_a_node_that_was_away_gets_the_new_key_at_the_next_login() -> None:
    house = House(2)
    house.world.servers[2].up = False
    house.perform(house.change(OLD, NEW))
    assert house.opens(NEW)
    kept = house.wrap(NEW)
    assert kept is not None
    assert [kin.seed for kin in kept.ring.kin] == [OLD.login.seed]
    house.world.servers[2].up = True
    assert house.knock(OLD.login).keys() == {house.world.servers[2].node_id}
    house.perform(house.enter(NEW))
    assert not house.knock(OLD.login)
    assert house.wrap(OLD) is None
    assert house.opens(NEW)


def test_several_changes_while_a_node_is_away_all_reach_it() -> None:
    house = House(3)
    house.world.servers[0].up = False
    house.perform(house.change(OLD, NEW))
    house.perform(house.change(NEW, THIRD))
    house.world.servers[0].up = True
    house.perform(house.enter(THIRD))
    assert [door.known for door in house.doors.values()] == [(THIRD.login.public_key,)] * 4
    assert (house.wrap(OLD), house.wrap(NEW)) == (None, None)


def test_changes_without_end_while_a_node_is_away_are_refused() -> None:
    house = House(3)
    house.world.servers[0].up = False
    before = OLD
    for number in range(10, 16):
        after = evolve(OLD, login=login_keys(bytes((number,)) * 32))
        house.perform(house.change(before, after))
        before = after
    with pytest.raises(ConfigError, match="too often while nodes were away"):
        house.perform(house.change(before, NEW))
    assert house.opens(before)


def test_with_too_few_nodes_nothing_changes() -> None:
    house = House(4)
    for server in house.world.servers[:2]:
        server.up = False
    with pytest.raises(QuorumError):
        house.perform(house.change(OLD, NEW))
    for server in house.world.servers:
        server.up = True
    assert house.opens(OLD)
    house.perform(house.change(OLD, NEW))
    assert house.opens(NEW)


def test_the_same_password_is_none() -> None:
    house = House(5)
    with pytest.raises(ConfigError, match="the new password is the old one"):
        house.perform(house.change(OLD, OLD))


def test_of_two_changes_at_once_the_wraps_tell_who_was_first() -> None:
    house = House(6)
    vault = house.world.vault()
    found = house.world.run(find_wrap(vault, OLD))
    assert found is not None
    house.world.run(rekeying.begin(vault, OLD, found, NEW))
    with pytest.raises(ConflictError, match="meanwhile, by another client"):
        house.world.run(rekeying.begin(vault, OLD, found, THIRD))


def test_of_two_changes_at_once_the_one_that_is_used_is_told_to_all_nodes() -> None:
    """The other reached one node, under a later epoch: that is not for ever in the way."""
    house = House(6)
    vault, held = house.world.vault(), house.knock(OLD.login)
    found = house.world.run(find_wrap(vault, OLD))
    assert found is not None
    ring = house.world.run(rekeying.begin(vault, OLD, found, NEW))
    again = house.world.run(find_wrap(vault, OLD))
    assert again is not None
    other = house.world.run(rekeying.begin(vault, OLD, again, THIRD))
    assert other.epoch == ring.epoch + 1
    *three, last = held
    house.world.run(rekeying.tell(NEW, ring.epoch, {node: held[node] for node in three}))
    house.world.run(rekeying.tell(THIRD, other.epoch, {last: held[last]}))
    assert house.doors[last].known == (THIRD.login.public_key, OLD.login.public_key)
    house.perform(house.enter(NEW))
    assert [door.known for door in house.doors.values()] == [(NEW.login.public_key,)] * 4
    assert house.wrap(OLD) is None
    fourth = evolve(OLD, login=login_keys(b"\4" * 32))
    house.perform(house.change(NEW, fourth))
    assert [door.known for door in house.doors.values()] == [(fourth.login.public_key,)] * 4


def test_a_change_that_the_old_key_did_not_sign_is_refused() -> None:
    house = House(7)
    told = house.world.run(
        rekeying.tell(NEW, 1, dict.fromkeys(house.doors, evolve(OLD.login, seed=THIRD.login.seed)))
    )
    assert not told.replies
    assert all(isinstance(error, LoginError) for error in told.errors.values())
    assert house.opens(OLD)


def test_an_epoch_that_is_over_changes_nothing() -> None:
    house = House(8)
    held = house.knock(OLD.login)
    house.world.run(rekeying.tell(NEW, 5, held))
    house.knock(OLD.login)
    told = house.world.run(rekeying.tell(THIRD, 5, held))
    assert not told.replies
    assert all(isinstance(error, ConflictError) for error in told.errors.values())
    house.knock(OLD.login)
    again = house.world.run(rekeying.tell(NEW, 5, held))
    assert again.replies.keys() == held.keys()


# --- Recovery keys ---

SHEET = rekeying.recovery_owner(OLD, b"r" * 32)


def test_a_recovery_key_opens_the_vault_and_gives_a_password_back() -> None:
    house = House(9)
    vault = house.world.vault()
    found = house.world.run(find_wrap(vault, OLD))
    assert found is not None
    house.world.run(rekeying.add_recovery(vault, OLD, found, b"r" * 32, only=False))
    house.perform(house.change(OLD, NEW))  # the sheet outlives it
    lost = house.world.run(find_wrap(vault, SHEET))
    assert lost is not None
    assert lost.master == house.master
    house.world.run(rekeying.recover(vault, THIRD, SHEET, lost, is_recovery=True))
    third = house.wrap(THIRD)
    assert third is not None
    assert (third.master, third.ring) == (house.master, Ring(0, (), (SHEET.login.kek,)))
    assert (house.wrap(NEW), house.wrap(OLD)) == (None, None)
    assert house.wrap(SHEET) is not None


def test_only_the_last_sheet_is_good_if_so_wished() -> None:
    house = House(10)
    vault = house.world.vault()
    for number in range(4):
        found = house.world.run(find_wrap(vault, OLD))
        assert found is not None
        house.world.run(rekeying.add_recovery(vault, OLD, found, bytes((40 + number,)) * 32, only=False))
    found = house.world.run(find_wrap(vault, OLD))
    assert found is not None
    with pytest.raises(ConfigError, match="recovery sheets already"):
        house.world.run(rekeying.add_recovery(vault, OLD, found, b"r" * 32, only=False))
    house.world.run(rekeying.add_recovery(vault, OLD, found, b"r" * 32, only=True))
    assert house.wrap(rekeying.recovery_owner(OLD, bytes((40,)) * 32)) is None
    assert house.wrap(SHEET) is not None
    assert house.opens(OLD)


def test_an_old_password_gives_the_vault_to_a_new_one() -> None:
    house = House(11)
    vault = house.world.vault()
    found = house.world.run(find_wrap(vault, OLD))
    assert found is not None
    house.world.run(rekeying.recover(vault, NEW, OLD, found, is_recovery=False))
    assert house.wrap(OLD) is None
    new = house.wrap(NEW)
    assert new is not None
    assert new.master == house.master


# --- Wraps of before ---


def test_a_vault_with_the_single_wrap_of_before_opens_and_changes() -> None:
    house = House(12)
    vault = evolve(house.world.vault(), keys=vault_keys(OLD.login.kek))
    found = house.world.run(read_registers(vault, [WRAP_REGISTER, wrap_register(OLD.login.kek)]))
    first = found[WRAP_REGISTER].entry
    assert first is not None
    nonce = first.content[4:16] if first.content else b""
    assert first.content == wrap_master(house.master, OLD.login.kek, nonce, "orchard", "ines", KEY_FILE)
    assert found[wrap_register(OLD.login.kek)].entry is None
    house.perform(house.change(OLD, NEW))
    assert house.opens(NEW)
