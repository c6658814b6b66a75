"""The api shows all of the seams and the vocabulary, and nothing else of core."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

from dfs.core import api, errors, interface, types


def public_names(module: ModuleType) -> set[str]:
    """What a file defines itself: classes, functions and constants, not what it imports."""
    assert module.__file__ is not None
    names: set[str] = set()
    for node in ast.parse(Path(module.__file__).read_bytes()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", [errors, interface, types])
def test_every_public_name_is_there(module: ModuleType) -> None:
    names = public_names(module) - {"T"}  # a type variable is each file's own
    assert {name for name in names if getattr(api, name, None) is not getattr(module, name)} == set()


def test_it_holds_no_code() -> None:
    assert api.__file__ is not None
    docstring, *statements = ast.parse(Path(api.__file__).read_bytes()).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, ast.ImportFrom) for statement in statements)
