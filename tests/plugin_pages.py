"""What docs/plugins.md must say, read from the code: signatures, fields, tests of contracts, and examples.

``python -m tests.plugin_pages KIND`` prints the parts of a section that follow from the code.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

import dfs.testing
from dfs.core import interface
from dfs.core.registry import HOOKS, KINDS
from dfs.plugins.command_plugins import package_files

BEHAVIOURS: Final = {
    "transport": ("Transport", "Listener", "Stream"),
    "cipher": ("Cipher",),
    "compressor": ("Compressor",),
    "code": ("Code",),
    "placement": ("Placement",),
    "chunker": ("Chunker",),
    "store": ("Store", "VaultStore", "View", "Transaction", "Staged", "ShareSlice", "Files", "File", "Env"),
    "command": ("CommandContext",),
}
OPTIONS: Final = {
    "transport": "TransportOptions",
    "code": "CodeOptions",
    "placement": "PlacementOptions",
    "store": "StoreOptions",
}
EXAMPLE: Final = "marigold"
KIND_HOOK: Final = {kind: hook for hook, kind in KINDS.items()}


def protocols() -> dict[str, ast.ClassDef]:
    """Return the classes of the seams by name."""
    assert interface.__file__ is not None
    tree = ast.parse(Path(interface.__file__).read_bytes())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def signatures(name: str) -> Iterator[str]:
    """Yield a line for each member of a Protocol: ``name: type`` for a property, else ``name(…) -> type``."""
    for node in protocols()[name].body:
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None
            returns = ast.unparse(node.returns).strip("'\"")
            if any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list):
                yield f"{node.name}: {returns}"
            else:
                arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
                yield f"{node.name}({arguments}) -> {returns}"


def fields(name: str) -> Iterator[str]:
    """Yield a line for each field of a plugin object or its options, with its type."""
    for each in attrs.fields(getattr(interface, name)):
        text = str(each.type) if "[" in str(each.type) else getattr(each.type, "__name__", str(each.type))
        yield f"{each.name}: {text.replace('collections.abc.', '')}"


def short(line: str) -> str:
    """Return a line without the names of modules."""
    for module in ("dfs.core.interface.", "dfs.core.types.", "click.core.", "typing."):
        line = line.replace(module, "")
    return line


def contract_tests(kind: str) -> Iterator[tuple[str, str]]:
    """Yield the tests of a contract, in the order of their classes, with what each says of itself."""
    contract = getattr(dfs.testing, f"{kind.capitalize()}Contract")
    seen = set()
    for base in reversed(contract.__mro__):
        for name in vars(base):
            if name.startswith("test_") and name not in seen and callable(getattr(contract, name)):
                seen.add(name)
                says = inspect.getdoc(getattr(contract, name)) or ""
                yield name, " ".join(says.split())


def signature_text(kind: str) -> str:
    """Return the code block with the hook and all it asks for."""
    hook = KIND_HOOK[kind]
    plugin = HOOKS[hook].__name__
    lines = [
        f"{hook}() -> Iterable[{plugin}]",
        "",
        plugin,
        *(f"    {short(line)}" for line in fields(plugin)),
    ]
    options = OPTIONS.get(kind, "Options")
    lines += [options, *(f"    {short(line)}" for line in fields(options))]
    for name in BEHAVIOURS[kind]:
        lines += [name, *(f"    {line}" for line in signatures(name))]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def list_of_tests(kind: str) -> str:
    """Return the tests of a contract as lines of a list."""
    return "".join(f"- `{name}`{': ' + says if says else ''}\n" for name, says in contract_tests(kind))


def example(kind: str) -> str:
    """Return the example of a section: what `dfs plugins new` writes."""
    (source,) = (text for path, text in package_files(EXAMPLE, kind).items() if path == f"dfs_{EXAMPLE}.py")
    return f"```python\n{source}```\n"


if __name__ == "__main__":
    for part in (signature_text(sys.argv[1]), example(sys.argv[1]), list_of_tests(sys.argv[1])):
        sys.stdout.write(part + "\n")
