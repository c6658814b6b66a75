"""Nodes that are away when a file is replaced or removed, and come back with what they knew.

The cases of MinIO's issues 3768, 5380 and 9931: a node that missed a change must neither bring an old version
back nor mix it with the new one, and lists must not depend on who answers.
"""

from collections.abc import Sequence
from itertools import product

import pytest

from dfs.core import folders
from dfs.core.consensus import Changed
from dfs.core.errors import NotFoundError
from dfs.core.getting import GetItem, Got, get_files
from dfs.core.local import BytesContent
from dfs.core.pipeline import Slot
from dfs.core.putting import Making, PutItem, put_files
from dfs.core.transfer import Vault
from dfs.core.types import EntryKind, Outcome, Version
from dfs.testing.simulation.clients import Client
from dfs.testing.simulation.cluster import Cluster, town
from dfs.testing.simulation.workload import Even, Gathered, Wish, get, put, remove

PATH = "letter"
NOBODY = -1
ABSENCES = (NOBODY, 0, 1, 2, 3)
BODIES = [b"short", bytes(range(256)) * 4 + b"tail"]  # in the entry; in several chunks


def away(cluster: Cluster, *absent: int) -> tuple[Client, Vault]:
    """Let exactly these nodes be down, and return a client that has just come."""
    for index, node in enumerate(cluster.nodes):
        if index in absent:
            node.fall()
        else:
            assert node.start()
    return cluster.opened()


def write(cluster: Cluster, body: bytes, *absent: int) -> Outcome:
    client, vault = away(cluster, *absent)
    version = Version(client.clock.random_bytes(16))
    return cluster.value(client, put(client, vault, Wish("put", PATH, version, body), 256))


def delete(cluster: Cluster, *absent: int) -> None:
    client, vault = away(cluster, *absent)
    cluster.value(client, remove(vault, Wish("rm", PATH)))


def read(cluster: Cluster, *absent: int) -> tuple[Version, bytes | None]:
    client, vault = away(cluster, *absent)
    got, body = cluster.value(client, get(vault, PATH))
    assert not got.stale
    return got.entry.version, body


def listed(cluster: Cluster, *absent: int) -> list[tuple[str, Version]]:
    client, vault = away(cluster, *absent)
    return [
        (item.entry.path, item.entry.version)
        for item in cluster.value(client, folders.list_folder(vault, ""))
    ]


def gone(cluster: Cluster, *absent: int) -> bool:
    client, vault = away(cluster, *absent)
    with pytest.raises(NotFoundError):
        cluster.value(client, get(vault, PATH))
    return listed(cluster, *absent) == []


@pytest.mark.parametrize("body", BODIES, ids=["inline", "chunks"])
def test_overwritten_with_node_4_down_then_read_with_node_1_down(body: bytes) -> None:
    with town(node_count=4, needed=2) as cluster:
        old = write(cluster, b"old" + body)
        new = write(cluster, b"new" + body, 3)
        assert (old.node_count, new.node_count, new.survives) == (4, 3, 1)
        assert read(cluster, 0) == (new.version, b"new" + body)
        assert listed(cluster, 0) == [(PATH, new.version)]


def test_lists_do_not_depend_on_who_answers() -> None:
    """MinIO lists flip between the answers of nodes that know other things."""
    with town(node_count=4, needed=2) as cluster:
        old = write(cluster, b"old", 0)
        assert {tuple(listed(cluster, index)) for index in (NOBODY, 0, 1, 2, 3)} == {((PATH, old.version),)}
        new = write(cluster, b"new", 1)
        assert {tuple(listed(cluster, index)) for index in (NOBODY, 0, 1, 2, 3)} == {((PATH, new.version),)}
        delete(cluster, 2)
        assert {tuple(listed(cluster, index)) for index in (NOBODY, 0, 1, 2, 3)} == {()}


@pytest.mark.parametrize("absent", range(4))
def test_a_node_that_slept_through_write_and_removal_brings_nothing_back(absent: int) -> None:
    """Its late answers are those of a node that was frozen, not down."""
    with town(node_count=4, needed=2) as cluster:
        first = write(cluster, b"1")
        client, vault = cluster.opened()
        cluster.nodes[absent].frozen = True
        version = Version(client.clock.random_bytes(16))
        cluster.value(client, put(client, vault, Wish("put", PATH, version, b"2"), 256))
        cluster.value(client, remove(vault, Wish("rm", PATH)))
        cluster.nodes[absent].thaw()
        cluster.wait(60.0)
        assert first.version != version
        for other in range(4):
            assert gone(cluster, other)


# --- Every order of absences: one path for each, many in one command ---


def named(*absences: int) -> str:
    return "-".join(str(index + 1) for index in absences)


def write_all(cluster: Cluster, bodies: dict[str, bytes], absent: int) -> dict[str, Version]:
    client, vault = away(cluster, absent)
    items = [
        PutItem(path, BytesContent(body, 0), Version(client.clock.random_bytes(16)))
        for path, body in bodies.items()
    ]
    made = cluster.value(
        client, put_files(vault, items, Making(client.stages(), Even(256), [Slot(), Slot()]))
    )
    assert all(isinstance(outcome, Outcome) for outcome in made)
    return {item.path: item.version for item in items}


def delete_all(cluster: Cluster, paths: Sequence[str], absent: int) -> None:
    client, vault = away(cluster, absent)
    outcomes = cluster.value(client, folders.remove_entries(vault, paths, kind=EntryKind.FILE))
    assert all(isinstance(outcome, Changed) for outcome in outcomes.values())


def seen(cluster: Cluster, paths: Sequence[str], absent: int) -> dict[str, Version]:
    """What is there: by LIST, and the same by GET of every path."""
    there = dict(listed(cluster, absent))
    client, vault = away(cluster, absent)
    items = [GetItem(path, Gathered) for path in paths]
    for path, got in zip(paths, cluster.value(client, get_files(vault, items, [Slot()])), strict=True):
        assert (there.get(path) is None) == isinstance(got, NotFoundError)
        assert isinstance(got, NotFoundError | Got)
        assert isinstance(got, NotFoundError) or (not got.stale and got.entry.version == there[path])
    return there


@pytest.mark.parametrize("body", BODIES, ids=["inline", "chunks"])
def test_whoever_is_away_when_it_is_replaced_and_when_it_is_read(body: bytes) -> None:
    paths = [named(*pair) for pair in product(ABSENCES, repeat=2)]
    with town(node_count=4, needed=2) as cluster:
        for first in ABSENCES:
            write_all(cluster, {path: b"1" + body for path in paths if path.startswith(named(first))}, first)
        new: dict[str, Version] = {}
        for second in ABSENCES:
            bodies = {path: b"2" + body for path in paths if path.endswith(f"-{named(second)}")}
            new |= write_all(cluster, bodies, second)
        for reading in ABSENCES:
            assert seen(cluster, paths, reading) == new


def test_a_removed_file_stays_so_after_any_order_of_absences() -> None:
    """Away when it is written, when it is removed, and at any two later times."""
    paths = [named(*pair) for pair in product(ABSENCES, repeat=2)]
    for then in ABSENCES:
        with town(node_count=4, needed=2) as cluster:
            for writing in ABSENCES:
                bodies = {path: b"body" for path in paths if path.startswith(named(writing))}
                write_all(cluster, bodies, writing)
            for removing in ABSENCES:
                delete_all(
                    cluster, [path for path in paths if path.endswith(f"-{named(removing)}")], removing
                )
            for at_last in (then, *ABSENCES):
                assert seen(cluster, paths, at_last) == {}


def test_a_file_made_again_after_its_removal_is_the_new_one() -> None:
    paths = [named(*pair) for pair in product(ABSENCES, repeat=2)]
    with town(node_count=4, needed=2) as cluster:
        write_all(cluster, dict.fromkeys(paths, b"old"), NOBODY)
        for removing in ABSENCES:
            delete_all(cluster, [path for path in paths if path.startswith(named(removing))], removing)
        new: dict[str, Version] = {}
        for writing in ABSENCES:
            chosen = [path for path in paths if path.endswith(f"-{named(writing)}")]
            new |= write_all(cluster, dict.fromkeys(chosen, b"new"), writing)
        for reading in ABSENCES:
            assert seen(cluster, paths, reading) == new
        delete_all(cluster, paths, 3)
        for reading in ABSENCES:
            assert seen(cluster, paths, reading) == {}
