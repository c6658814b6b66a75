"""Each mutant is caught near a seed known to catch it, and the right code stays clean there.

What a seed does changes with the code, so some seeds behind the known one are tried too. The long search with
fresh seeds is `nox -s mutants`.
"""

from itertools import count, islice

import pytest

from dfs.core import register
from dfs.core.node import VaultNode
from tests.simulation.mutants import hunt
from tests.simulation.mutants_patching import Patch, applied
from tests.simulation.mutants_table import MUTANTS, Mutant

SEED_COUNT_MAX = 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_notices(mutant: Mutant) -> None:
    found = hunt(mutant, islice(count(mutant.seed), SEED_COUNT_MAX), broken=True)
    assert found.violation, f"{mutant.name} survives: {mutant.rule}"
    assert hunt(mutant, [found.seed], broken=False).violation == ""


def test_mutants_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_patch_reaches_those_who_imported_the_function_and_is_undone() -> None:
    before, method = register.next_counter, VaultNode.tidy
    with applied([Patch(register, "next_counter", lambda _original: lambda _seen: 7)]) as reached:
        assert register.next_counter([]) == 7
        assert reached["core.register.next_counter"] == 1
    with applied([Patch(VaultNode, "tidy", lambda _original: lambda _node: False)]):
        assert VaultNode.tidy is not method
    assert register.next_counter is before
    assert VaultNode.tidy is method


def test_a_mutant_whose_function_is_gone_fails() -> None:
    with (
        pytest.raises(AssertionError, match="is gone"),
        applied([Patch(register, "no_such_rule", lambda original: original)]),
    ):
        pass
