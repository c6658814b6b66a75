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
    listing,
    size_text,
)

DFS_API_VERSION = 1
PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%?")


@click.command("check", epilog="Example: dfs check --read-data=10% photos")
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
    if what_if is not None and any_count is not None:
        raise ConfigError("--what-if and --any exclude each other")
    wanted = context.remote(path)
    ratio = _ratio(read)
    cluster = context.cluster()
    names = dict(cluster.nodes)
    killed = _killed(what_if, cluster.nodes)
    checked = cluster.check(wanted, read_ratio=ratio)
    for node, name in names.items():
        if reason := checked.away.get(node):
            context.emit("away", {"node": name, "reason": reason})
            context.note(f"{name} does not answer: {reason}")
    for file in checked.items:
        context.emit("items", _record(file, names), _line(file, names))
    counts = {state: sum(1 for file in checked.files if file.state.value == state) for state in STATES}
    values: dict[str, object] = {"files": len(checked.files), **counts, "read_bytes": checked.read_size}
    text = _summary(checked, counts, names, advised=what_if is None and any_count is None)
    if what_if is None and any_count is None:
        context.emit("", values, text)
        _judge(context, counts)
        return
    if any_count is None:
        lost = cluster.lost_without(killed, wanted)
        without = listing([names[node] for node in killed])
    else:
        lost = cluster.lost_without(any_count, wanted)
        without = f"any {count_text(any_count, 'node')}"
    values["what_if"] = {"killed": [names[node] for node in killed], "any": any_count, "lost": sorted(lost)}
    gone = [file for file in checked.files if file.path in lost]
    context.emit("", values, f"now: {text} {_verdict(checked, without, killed, any_count, gone)}")
    if lost:
        context.end(IncompleteError.exit_code)


STATES = ("complete", "degraded", "corrupt", "incomplete")
SHOWN_COUNT = 3  # of files lost; --json has all


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
    by_name = {name.lower(): node for node, name in nodes}
    unknown = [name for name in rest.split(",") if name.lower() not in by_name]
    if unknown:
        known = listing([name for _, name in nodes])
        raise ConfigError(
            f"--what-if: there is no node {', '.join(unknown)}", next_step=f"There are {known}."
        )
    return list(dict.fromkeys(by_name[name.lower()] for name in rest.split(",")))


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


def _summary(
    checked: Any,  # noqa: ANN401 - a Checked of dfs.cluster
    counts: Mapping[str, int],
    names: Mapping[NodeId, str],
    *,
    advised: bool,
) -> str:
    """Return the counts in one line, with what ends the faults if ``advised``."""
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state == "complete")
    read = f" Read {size_text(checked.read_size)} of shares." if checked.read_size else ""
    due = ""
    if not advised:
        pass
    elif any(file.flaws for file in checked.items):
        due = " To repair: dfs repair"
    elif checked.items and checked.away:
        back = listing([name for node, name in names.items() if node in checked.away])
        due = f" When {back} {'is' if len(checked.away) == 1 else 'are'} back: dfs repair"
    return f"{count_text(len(checked.files), 'file')}, {states}.{read}{due}"


def _verdict(
    checked: Any,  # noqa: ANN401 - as above
    without: str,
    killed: Sequence[NodeId],
    any_count: int | None,
    lost: Sequence[Any],
) -> str:
    told = f"Without {without}: {len(checked.files) - len(lost)} readable, {len(lost)} lost"
    if not lost:
        return f"{told}."
    shown = []
    for file in lost[:SHOWN_COUNT]:
        left = len(file.holders.difference(killed)) if any_count is None else max(0, file.held - any_count)
        shown.append(f"{file.path} ({left} of {file.needed} needed shares left)")
    gone_count = len(killed) if any_count is None else any_count
    savable = all(file.held < file.total and file.total - gone_count >= file.needed for file in lost)
    hint = " To survive this: dfs repair" if savable else ""
    return f"{told}: {', '.join(shown)}{', ...' if len(lost) > SHOWN_COUNT else ''}.{hint}"


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
