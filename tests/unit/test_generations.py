"""Of two generations of keys beside each other, each directory is looked at under its own."""

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.errors import DfsError, UnreachableError
from dfs.core.folders import make_folder
from dfs.core.generations import view_of
from dfs.core.keys import directory_id, vault_keys
from dfs.core.transfer import Vault
from tests.unit.histories import put
from tests.unit.world import World

ONE, TWO, THREE = (vault_keys(bytes((number,)) * 32) for number in (1, 2, 3))


def vault_of(world: World) -> Vault:
    return evolve(world.vault(ONE), others=(TWO,))


def test_each_directory_is_under_the_keys_it_was_written_with() -> None:
    world = World(1)
    for keys in (ONE, TWO, THREE):
        world.run(make_folder(world.vault(keys), "folder"))
        world.run(put(world, b"body", "folder/file", vault=world.vault(keys)))
    vault = vault_of(world)
    for keys, expected in ((ONE, ONE), (TWO, TWO), (THREE, None)):
        for path in ("", "folder"):
            view = world.run(view_of(vault, directory_id(keys, path)))
            assert (view.keys if view is not None else None) == expected
    assert world.run(view_of(vault, directory_id(ONE, "none"))) is None
    assert not vault.suspicions


@pytest.mark.parametrize("holder", range(4))
def test_one_value_that_nobody_confirmed_tells_whose_it_is(holder: int) -> None:
    """A list brings the values of one node only; the others are asked."""
    world = World(2)
    for number, server in enumerate(world.servers):
        if number != holder:
            server.refuses = {messages.Accept: UnreachableError("slow")}
    with pytest.raises(DfsError):
        world.run(put(world, b"body", "file", vault=world.vault(TWO)))
    for server in world.servers:
        server.refuses = {}
    view = world.run(view_of(vault_of(world), directory_id(TWO, "")))
    assert view is not None
    assert view.keys == TWO
