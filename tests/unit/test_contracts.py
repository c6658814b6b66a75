"""The kit itself: a contract for each hook, verified fakes, and our commands through their contract."""

import inspect

import pytest

import dfs.testing
from dfs.core import hookspec
from dfs.core.api import CommandContext, NoConfError
from dfs.core.registry import KINDS, Registry
from dfs.plugins import BUILTIN
from dfs.testing import CONTRACTS, CommandContract
from dfs.testing.commands import DOORS, Recorder

EXAMPLES: dict[str, list[list[str]]] = {"version": [[]]}
REFUSED: dict[str, list[list[str]]] = {
    "mkdir": [["folder"]],
    "rm": [["file"]],
    "status": [[]],
    "check": [[]],
    "repair": [[]],
}


def command_contract(name: str) -> type[CommandContract]:
    plugin = Registry(BUILTIN).get("dfs_commands", name).plugin
    return type("TestCommand", (CommandContract,), {"plugin": plugin, "examples": EXAMPLES.get(name, ())})


globals().update({f"TestCommand_{name}": command_contract(name) for name in BUILTIN["dfs_commands"]})


@pytest.mark.parametrize("name", REFUSED)
def test_our_commands_swallow_no_error(name: str) -> None:
    contract = command_contract(name)
    contract.examples = REFUSED[name]
    contract().test_errors_are_not_swallowed()


def test_each_hook_has_its_contract() -> None:
    kinds = {name.removesuffix("Contract").lower() for name in CONTRACTS}
    assert kinds == set(KINDS.values())
    hooks = {name for name, _ in inspect.getmembers(hookspec, inspect.isfunction) if name.startswith("dfs_")}
    assert set(KINDS) == hooks
    assert all(getattr(dfs.testing, name).__name__ == name for name in CONTRACTS)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="HorseContract"):
        dfs.testing.HorseContract  # noqa: B018


def test_the_recorder_has_every_door() -> None:
    """A door added to CommandContext must not be missing in the fake."""
    recorder = Recorder()
    context: CommandContext = recorder
    assert DOORS
    for name in DOORS:
        assert hasattr(context, name)
    with pytest.raises(NoConfError):
        recorder.users_path(None)
    assert recorder.used == ["users_path"]
