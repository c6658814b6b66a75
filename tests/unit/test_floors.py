"""Floors: they only rise, are read when needed, are dropped with their name, and are authentic or nothing."""

import pytest
from hypothesis import given, strategies as st

from dfs.core.errors import IntegrityError
from dfs.core.floors import Floors, decode_floors, encode_floors
from dfs.core.register import make_ballot
from dfs.core.types import NO_BALLOT, Ballot, DirectoryId, NameId, RegisterKey

KEY, HERE, THERE = bytes(32), DirectoryId(b"h" * 16), DirectoryId(b"t" * 16)
LETTER = RegisterKey(HERE, NameId(b"l" * 16))
names = st.binary(min_size=16, max_size=16).map(NameId)
ballots = st.binary(min_size=24, max_size=24).map(Ballot)


def ballot(counter: int) -> Ballot:
    return make_ballot(counter, b"a" * 16)


def test_a_floor_rises_only() -> None:
    floors = Floors()
    assert floors.at(LETTER) == NO_BALLOT
    for counter in (2, 3, 1):
        floors.saw(LETTER, ballot(counter))
    assert floors.at(LETTER) == ballot(3)
    assert floors.changed() == [HERE]
    floors.drop(LETTER)
    assert floors.at(LETTER) == NO_BALLOT
    assert floors.merged(HERE, {LETTER.name: ballot(3)}) == {}


def test_what_is_kept_is_read_once_and_when_needed() -> None:
    read: list[DirectoryId] = []

    def load(directory: DirectoryId) -> dict[NameId, Ballot]:
        read.append(directory)
        return {LETTER.name: ballot(5)}

    floors = Floors(load)
    assert read == []
    floors.saw(LETTER, ballot(4))
    assert floors.at(LETTER) == ballot(5)
    assert floors.of(THERE) == {LETTER.name: ballot(5)}
    assert read == [HERE, THERE]
    assert floors.changed() == [], "nothing new was seen"


def test_of_two_clients_the_higher_floor_wins() -> None:
    floors = Floors()
    floors.saw(LETTER, ballot(3))
    assert floors.merged(HERE, {LETTER.name: ballot(4)}) == {LETTER.name: ballot(4)}
    assert floors.merged(HERE, {LETTER.name: ballot(2)}) == {LETTER.name: ballot(3)}
    other = NameId(b"o" * 16)
    assert floors.merged(HERE, {other: ballot(9)}) == {LETTER.name: ballot(3), other: ballot(9)}


def test_a_name_that_was_made_again_meanwhile_stays() -> None:
    floors = Floors(lambda _directory: {LETTER.name: ballot(3)})
    floors.drop(LETTER)
    assert floors.merged(HERE, {LETTER.name: ballot(7)}) == {LETTER.name: ballot(7)}
    floors.saw(LETTER, ballot(8))
    assert floors.merged(HERE, {}) == {LETTER.name: ballot(8)}


@given(st.dictionaries(names, ballots, max_size=5))
def test_they_come_back_as_they_were(floors: dict[NameId, Ballot]) -> None:
    assert decode_floors(KEY, HERE, encode_floors(KEY, HERE, floors)) == floors


def test_nothing_altered_is_believed() -> None:
    raw = encode_floors(KEY, HERE, {LETTER.name: ballot(3)})
    altered = [raw[:index] + bytes((raw[index] ^ 1,)) + raw[index + 1 :] for index in range(len(raw))]
    for wrong in [*altered, raw[:-1], raw + b"\0", b"", raw[:13]]:
        with pytest.raises(IntegrityError):
            decode_floors(KEY, HERE, wrong)
    with pytest.raises(IntegrityError):
        decode_floors(KEY, THERE, raw)
    with pytest.raises(IntegrityError):
        decode_floors(b"k" * 32, HERE, raw)
