"""What people read: the words of the original, and one line for each thing that happened.

Pure: values in, text out. It is imported for `dfs --help` too, so heavy rooms are named for the type
checker only.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from dfs.core.errors import DfsError
from dfs.core.paths import name_of, printable
from dfs.core.types import BAD_SHARES, EntryKind, NodeId, Outcome
from dfs.core.units import (
    count_text as count_text,
    duration_text as duration_text,
    listing as listing,
    rate_text as rate_text,
    short_size as short_size,
    size_text as size_text,
)

if TYPE_CHECKING:
    from dfs.core.folders import Listed
    from dfs.core.getting import Got

# The words of the original client, kept to the letter.
INVALID_LOGIN: Final = "Invalid Username/Password. Please try again."
FILES_ARE: Final = "Files in the Servers are:"
NO_FILE: Final = "No file Found"
FILE_SAVED: Final = "File saved."
FILE_SENT: Final = "File send."
FILE_INCOMPLETE: Final = "File is incomplete."
FILE_UNKNOWN: Final = "File does not exist."
FOLDER_UNKNOWN: Final = "Folder does not exist."
UNKNOWN_VERB: Final = "Please provide one of the following commands."
WRONG_ARGUMENTS: Final = "Please provide arguments for that command."
INCOMPLETE_MARK: Final = " [incomplete]"
SQUARES: Final = "\N{BLACK SQUARE}\N{WHITE SQUARE}"
INSECURE_MARK: Final = " !"  # behind the name of a file that its cipher does not protect

SEALED: Final = "This vault was sealed with another password."
STALE: Final = "degraded: may be stale"
STALE_LINE: Final = f"{STALE}, too few nodes answer to be sure  (DFS-E304)"

REASONS: Final = {
    "refused the connection": "refused",
    "does not answer": "no answer",
    "did not answer in time": "no answer",
    "broke off the connection": "broken off",
}


class NodeState(Protocol):
    """A node as a message needs it; ``down``: why it is left out, "" while it is used."""

    @property
    def name(self) -> str:
        """What the conf calls it."""

    @property
    def address(self) -> str:
        """Where it is."""

    @property
    def down(self) -> str:
        """Why it is left out."""


# --- What happened ------------------------------------------------------------------------------------------


def survival(count: int) -> str:
    """Return how many more nodes may be lost: ``survives any 2``."""
    return f"survives any {count}" if count > 0 else "survives no loss"


def detail(outcome: Outcome) -> str:
    """Return what became of a stored file: ``17.5 KiB, 4 of 4 nodes, survives any 2``."""
    nodes = f"{outcome.node_count} of {outcome.node_total} nodes"
    known = "  (0 B of shares sent, already stored)" if outcome.stored_size and not outcome.sent_size else ""
    return f"{size_text(outcome.size)}, {nodes}, {survival(outcome.survives)}{known}"


def got_detail(got: "Got", labels: Mapping[NodeId, str], seconds: float) -> str:
    """Return how a file came: ``17.5 KiB in 0.0 s  dfs1 8.8 KiB, dfs2 8.8 KiB  (0 B extra)``."""
    head = f"{size_text(got.size)} in {duration_text(seconds)}"
    if got.kept_size:
        head += f", {size_text(got.kept_size)} of it were here"
    if not got.received:
        return head
    sizes = sorted((label_name(labels, node), size) for node, size in got.received.items())
    nodes = ", ".join(f"{name} {short_size(size)}" for name, size in sizes)
    extra = max(0, sum(got.received.values()) - got.needed_size)
    return f"{head}  {nodes}  ({size_text(extra)} extra)"


def label_name(labels: Mapping[NodeId, str], node: NodeId) -> str:
    """Return a node's name, without its address, fit for a terminal."""
    return printable(labels.get(node, node.hex()[:8]).partition(" ")[0])


def insecure(cipher: str, allowed: Collection[str]) -> str:
    """Return what to say when a cipher is used that protects nothing, "" of others.

    ``cipher``: its name, or as manifests say it (``dfs:xor@1``); ``allowed``: what the conf allows.
    """
    name = cipher.rpartition(":")[2].partition("@")[0]
    return f"cipher {name} hides nothing from the nodes and notices no change" if name in allowed else ""


def ciphers_of(results: Iterable["Got | DfsError"]) -> set[str]:
    """Return the ciphers of the files that were got, as their manifests say them."""
    manifests = [got.entry.manifest for got in results if not isinstance(got, DfsError)]
    return {manifest.recipe.cipher for manifest in manifests if manifest is not None}


def distrust(labels: Mapping[NodeId, str], suspicions: Mapping[NodeId, str]) -> list[str]:
    """Return what to say of nodes that told what cannot be true; bad shares are told with their files."""
    return [
        f"{label_name(labels, node)} is not to be trusted: it told {printable(told)}; the others were enough"
        "  (DFS-E402)"
        for node, told in suspicions.items()
        if told != BAD_SHARES
    ]


def reason(state: NodeState) -> str:
    """Return why a node is left out, without repeating its address: ``refused``."""
    return short_reason(state.down.removeprefix(f"{state.name} "), state.address)


def short_reason(down: str, address: str) -> str:
    """Return the reason of an error without the address it begins with: ``refused``."""
    bare = down.removeprefix(f"{address} ")
    return printable(REASONS.get(bare, bare))


def node_down(place: int, state: NodeState) -> str:
    """Return the line for a node found down; ``place``: in the conf, from 1."""
    return f"Server {place} is down. ({printable(state.name)} {state.address}: {reason(state)})"


def all_down(states: Iterable[NodeState]) -> str:
    """Return the line for a cluster of which no node answers."""
    reasons = ", ".join(f"{printable(state.name)} {state.address}: {reason(state)}" for state in states)
    return f"All servers are down. ({reasons})"


def degraded_line(outcome: Outcome, labels: Mapping[NodeId, str], states: Iterable[NodeState]) -> str:
    """Return the line that names the nodes a stored file has not reached, and what ends that."""
    lacking = {labels[node] for node in outcome.missing if node in labels}
    strangers = len(lacking) < len(outcome.missing)  # nodes nobody has met since the start
    met = set(labels.values())
    names: list[str] = []
    clauses: list[str] = []
    for state in states:
        label = f"{state.name} {state.address}"
        if state.down and (label in lacking or (strangers and label not in met)):
            lacking.discard(label)
            names.append(printable(state.name))
            clauses.append(f"{printable(label)} ({reason(state)})")
    for label in sorted(lacking):
        names.append(printable(label.partition(" ")[0]))
        clauses.append(f"{printable(label)} (has not got all of it)")
    away = listing(clauses) or count_text(len(outcome.missing), "node")
    back = f"{listing(names) or 'they'} {'is' if len(names) == 1 else 'are'} back"
    path = printable(outcome.path)
    return (
        f"degraded: {path} is not on {away}. The file is stored and readable."
        f" When {back}: dfs repair {path}  (DFS-E301)"
    )


def vault_made(node_count: int, key_file: str | None) -> str:
    """Return the line for the first login of all; ``key_file``: what opens it, None = a password."""
    opener = "the password" if key_file is None else f"the key file {printable(key_file)}"
    return (
        f"Vault made on {node_count} of {node_count} nodes."
        f" Without {opener} nobody can read what is stored. Recovery sheet: dfs key export"
    )


# --- Names and listings -------------------------------------------------------------------------------------


def quoted(name: str, *, always: bool = False) -> str:
    """Return a name as a prompt line takes it back: quoted where it could be misread, or ``always``."""
    shown = printable(name)
    doubtful = (
        shown.endswith((INCOMPLETE_MARK, INSECURE_MARK))
        or shown != shown.strip(" \t")
        or "'" in shown
        or '"' in shown
    )
    if shown and not doubtful and not always:
        return shown
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def listed_name(listed: "Listed", path: str | None = None) -> str:
    """Return a listed name (or ``path`` instead), quoted if need be, with "/" of a folder and LIST's mark."""
    entry = listed.entry
    shown = quoted(name_of(entry.path) if path is None else path)
    folder = "/" if entry.kind is EntryKind.FOLDER else ""
    mark = INSECURE_MARK if listed.insecure else ""
    return f"{shown}{folder}{mark}{INCOMPLETE_MARK if listed.health.value == 'incomplete' else ''}"


def long_rows(
    listed: Sequence["Listed"],
    nodes: Sequence[tuple[NodeId, str]],
    *,
    names: Sequence[str] | None = None,
    drawn: bool = False,
    named: bool = False,
) -> list[str]:
    """Return the table of ``ls -l``; ``nodes``: ids and names of the cluster in its order.

    Args:
        names: of the entries as they are listed; None: their last components.
        drawn: nodes are squares, filled where all is there, in place of # and dots.
        named: nodes are their names.
    """
    if not listed:
        return []

    def mark(item: "Listed") -> str:
        return _named(item, nodes) if named else _marks(item, nodes, SQUARES if drawn else "#.")

    head = ("STATE", "SIZE", "STORED", "NODES", "MODIFIED", "NAME")
    shown = names or [listed_name(item) for item in listed]
    pairs = zip(listed, shown, strict=True)
    rows = [_row(item, name, mark(item), _remark(item, nodes)) for item, name in pairs]
    return [*_aligned([head, *rows]), _summary(listed, nodes)]


def node_rows(
    listed: Sequence["Listed"], nodes: Sequence[tuple[NodeId, str]], names: Sequence[str]
) -> list[str]:
    """Return the table of ``ls --nodes``: by which nodes each of the ``names`` is held."""
    if not listed:
        return []
    rows = [(_named(item, nodes), name) for item, name in zip(listed, names, strict=True)]
    return _aligned([("NODES", "NAME"), *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows in columns; the last one, names, is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]


def _row(item: "Listed", name: str, marks: str, remark: str) -> tuple[str, ...]:
    entry = item.entry
    if entry.kind is EntryKind.FOLDER:
        return "folder", "", "", marks, "", name
    state = item.health.value.upper() if item.health.value == "incomplete" else item.health.value
    modified = datetime.fromtimestamp(entry.mtime_ns // 10**9).astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{state} {item.node_count}/{item.node_total}",
        size_text(entry.size),
        size_text(item.stored_size),
        marks,
        modified,
        name.removesuffix(INCOMPLETE_MARK) + remark,
    )


def _remark(item: "Listed", nodes: Sequence[tuple[NodeId, str]]) -> str:
    if item.health.value == "degraded":
        return f"   {survival(item.survives)}"
    if item.health.value == "incomplete":
        manifest = item.entry.manifest
        needed = f"needs {manifest.recipe.geometry.needed}; " if manifest is not None else ""
        return f"   {needed}gone from {', '.join(_away(item, nodes))}"
    return ""


def _away(item: "Listed", nodes: Sequence[tuple[NodeId, str]]) -> list[str]:
    return [printable(name) for node, name in nodes if node in item.members - item.holders]


def _marks(item: "Listed", nodes: Sequence[tuple[NodeId, str]], marks: str) -> str:
    return "".join(marks[node not in item.holders] for node, _ in nodes if node in item.members)


def holder_names(item: "Listed", nodes: Sequence[tuple[NodeId, str]]) -> list[str]:
    """Return the nodes that hold their part of an entry, in the order of the cluster."""
    return [name for node, name in nodes if node in item.members & item.holders]


def _named(item: "Listed", nodes: Sequence[tuple[NodeId, str]]) -> str:
    """Return the same for people, a dash in the place of each other node."""
    members = [(node, printable(name)) for node, name in nodes if node in item.members]
    return " ".join(name if node in item.holders else "-".ljust(len(name)) for node, name in members)


def _summary(listed: Sequence["Listed"], nodes: Sequence[tuple[NodeId, str]]) -> str:
    files = [item for item in listed if item.entry.kind is EntryKind.FILE]
    parts = [f"{count_text(len(files), 'file')}, {size_text(sum(item.entry.size for item in files))}."]
    degraded = sum(1 for item in files if item.health.value == "degraded")
    incomplete = [item for item in files if item.health.value == "incomplete"]
    if degraded:
        parts.append(f"{degraded} degraded: dfs repair.")
    if incomplete:
        away = sorted({name for item in incomplete for name in _away(item, nodes)})
        parts.append(f"{len(incomplete)} incomplete: put it again, or bring back {', '.join(away)}.")
    return " ".join(parts)
