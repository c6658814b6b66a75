"""`dfs check`: how every file stands; on request nodes read and hash what they keep."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    IncompleteError,
    IntegrityError,
    NodeId,
    Options,
    count_text,
    hookimpl,
    size_text,
)

DFS_API_VERSION = 1
PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%?")


@click.command("check")
@click.argument("path", default="")
@click.option(
    "--read-data",
    "read",
    is_flag=False,
    flag_value="100%",
    metavar="P%",
    help="Let nodes read and hash their shares: all, or of P % of the chunks.",
)
@click.option(
    "--what-if", metavar="kill=NODE,...", help="Judge the cluster that would be left without nodes."
)
@click.option("--any", "any_count", type=click.IntRange(1, 16), metavar="N", help="The same for any N nodes.")
@click.pass_obj
def check(
    context: CommandContext, *, path: str, read: str | None, what_if: str | None, any_count: int | None
) -> None:
    """Say which files are complete, and what the others lack.

    Exit status: 3 if files are degraded, 5 incomplete, 6 corrupt; with --what-if or --any 5 if some would be
    lost.
    """
    wanted = context.remote(path)
    ratio = _ratio(read)
    cluster = context.cluster()
    names = dict(cluster.nodes)
    killed = _killed(what_if, cluster.nodes)
    checked = cluster.check(wanted, read_ratio=ratio)
    for node, reason in checked.away.items():
        context.note(f"{names.get(node, node.hex()[:8])} does not answer: {reason}")
    for file in checked.items:
        context.emit("items", _record(file, names), _line(file, names))
    counts = {state: sum(1 for file in checked.files if file.state.value == state) for state in STATES}
    values: dict[str, object] = {"files": len(checked.files), **counts, "read_bytes": checked.read_size}
    text = _summary(len(checked.files), counts, checked.read_size)
    judging = what_if is not None or any_count is not None
    if judging:
        lost = set(cluster.lost_without(killed, wanted)) if what_if is not None else set()
        if any_count is not None:
            lost |= {file.path for file in checked.files if file.survives < any_count}
        without = [names[node] for node in killed]
        values["what_if"] = {"killed": without, "any": any_count, "lost": sorted(lost)}
        text += f" {_verdict(killed, any_count, names, len(checked.files), sorted(lost))}"
        if lost:
            context.end(IncompleteError.exit_code)
    context.emit("", values, text)
    if not judging:
        _judge(context, counts)


STATES = ("complete", "degraded", "corrupt", "incomplete")


def _ratio(text: str | None) -> float:
    if text is None:
        return 0.0
    match = PERCENT.fullmatch(text)
    percent = float(match[1]) if match else 0.0
    if not 0 < percent <= 100:
        raise ConfigError(f"--read-data={text}: expected a percentage above 0, as 5%")
    return percent / 100


def _killed(text: str | None, nodes: Sequence[tuple[NodeId, str]]) -> list[NodeId]:
    if text is None:
        return []
    kind, _, rest = text.partition("=")
    if kind != "kill" or not rest:
        raise ConfigError(f"--what-if {text}: expected kill=NODE,... as in kill=DFS1,DFS2")
    by_name = {name: node for node, name in nodes}
    unknown = [name for name in rest.split(",") if name not in by_name]
    if unknown:
        raise ConfigError(
            f"--what-if: there is no node {', '.join(unknown)}", next_step=f"There are {', '.join(by_name)}."
        )
    return [by_name[name] for name in rest.split(",")]


def _flaws(file: Any, names: Mapping[NodeId, str]) -> list[str]:  # noqa: ANN401 - a FileStanding of dfs.cluster
    return [f"{flaw.what} on {names.get(flaw.node, flaw.node.hex()[:8])}" for flaw in file.flaws]


def _record(file: Any, names: Mapping[NodeId, str]) -> Mapping[str, object]:  # noqa: ANN401 - as above
    return {
        "path": file.path,
        "size": file.size,
        "state": file.state.value,
        "shares": file.held,
        "total": file.total,
        "needed": file.needed,
        "survives": file.survives,
        "stale": file.stale,
        "flaws": [{"node": names.get(flaw.node, flaw.node.hex()), "what": flaw.what} for flaw in file.flaws],
    }


def _line(file: Any, names: Mapping[NodeId, str]) -> str:  # noqa: ANN401 - as above
    state = file.state.value if file.state.value == "degraded" else file.state.value.upper()
    parts = _flaws(file, names)
    if state == "INCOMPLETE":
        parts.insert(0, f"needs {file.needed}")
    else:
        parts.insert(0, f"survives any {file.survives}" if file.survives else "survives no further loss")
    if file.stale:
        parts.append("a newer version may exist")
    return f"{state} {file.held}/{file.total}  {file.path}  {', '.join(parts)}"


def _summary(file_count: int, counts: Mapping[str, int], read_size: int) -> str:
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state == "complete")
    read = f" Read {size_text(read_size)} of shares." if read_size else ""
    due = "" if counts["complete"] == file_count else " To repair: dfs repair"
    return f"{count_text(file_count, 'file')}, {states}.{read}{due}"


def _verdict(
    killed: Sequence[NodeId],
    any_count: int | None,
    names: Mapping[NodeId, str],
    file_count: int,
    lost: Sequence[str],
) -> str:
    without = [names[node] for node in killed] or [f"any {count_text(any_count or 0, 'node')}"]
    told = f"Without {', '.join(without)}: {file_count - len(lost)} readable, {len(lost)} lost"
    shown = ", ".join(lost[:3])
    return f"{told}: {shown}{', ...' if len(lost) > 3 else ''}" if lost else f"{told}."


def _judge(context: CommandContext, counts: Mapping[str, int]) -> None:
    if counts["corrupt"]:
        context.end(IntegrityError.exit_code)
    if counts["incomplete"]:
        context.end(IncompleteError.exit_code)
    if counts["degraded"]:
        context.degrade("")


def make(_options: Options) -> click.Command:
    """Return the command."""
    return check


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="check", summary="say which files are complete", make=make),)
