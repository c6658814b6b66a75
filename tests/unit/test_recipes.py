"""Behaviours by recipe: made once, and refused where they do not fit."""

import pytest
from attrs import evolve

from dfs.core.client import Plugins
from dfs.core.errors import InsecureError, PluginVersionError
from dfs.core.types import Geometry
from tests.unit.world import World

GEOMETRY = Geometry(2, 4)


@pytest.fixture
def plugins() -> Plugins:
    return World().plugins


def test_a_recipe_names_what_the_conf_chose_and_is_made_once(plugins: Plugins) -> None:
    recipe = plugins.recipe(GEOMETRY)
    assert (recipe.cipher, recipe.code) == ("dfs:aes-gcm@1", "dfs:reed-solomon@1")
    stages = plugins.stages(recipe)
    assert plugins.stages(recipe) is stages
    assert plugins.packer(recipe.compressor) is stages.packer
    assert plugins.chunker() is not None


def test_a_cipher_that_protects_nothing_must_be_allowed(plugins: Plugins) -> None:
    recipe = evolve(plugins.recipe(GEOMETRY), cipher="dfs:xor@1")
    with pytest.raises(InsecureError, match="cipher xor does not protect"):
        plugins.stages(recipe)


def test_a_code_of_another_format_is_refused(plugins: Plugins) -> None:
    assert plugins.code("reed-solomon@1", GEOMETRY) is plugins.code("reed-solomon@1", GEOMETRY)
    with pytest.raises(PluginVersionError, match="reed-solomon@2 is needed"):
        plugins.code("reed-solomon@2", GEOMETRY)
