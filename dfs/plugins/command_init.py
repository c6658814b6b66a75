"""`dfs init`: a conf made in a dialogue that says what may fail and what it costs, or with flags alone."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from dfs.core.api import CommandContext, CommandPlugin, ConfigError, NodeCertificate, Options, hookimpl

DFS_API_VERSION = 1
OUTPUT = "dfc.conf"
FEW = 6  # geometries shown when there are more
EXAMPLE = "Example: dfs init --user odile --node nas=10.0.0.2:7771 --node vps=vps.example:7771"


@click.command("init", epilog=EXAMPLE)
@click.option("--node", "nodes", multiple=True, metavar="NAME=HOST:PORT", help="A node; once for each.")
@click.option("--from", "base", metavar="FILE", help="Begin with this conf, of either form.")
@click.option("--output", metavar="FILE", help=f"Where to write it; {OUTPUT} if nothing else.")
@click.option("--key-file", metavar="FILE", help="Log in with this key file, made when missing; no password.")
@click.option("--password-file", metavar="FILE", help="The first line of this file (0600) is the password.")
@click.option("--offline", is_flag=True, help="Do not ask the nodes for their certificates.")
@click.option("--force", is_flag=True, help="Replace a conf that is there.")
@click.option("-n", "--dry-run", is_flag=True, help="Write nothing, ask for no password, show the conf.")
@click.pass_obj
def init(context: CommandContext, /, *, nodes: tuple[str, ...], base: str | None, **flags: Any) -> None:  # noqa: ANN401 - what the options say
    """Make a conf for a cluster. Without nodes on the command line it asks for everything.

    --user and --geometry say who logs in and how many shares are needed of how many, such as '2 of 4'.
    """
    path = flags["output"] or OUTPUT
    beginning = context.beginning({name: flags[name] for name in ("key_file", "password_file")})
    if not flags["force"] and not flags["dry_run"]:
        beginning.require_free(path)
    asked = not nodes and base is None
    if asked:
        nodes = _ask_nodes(context)
    conf = beginning.conf(base, nodes)
    if asked and not beginning.names_user:
        conf = beginning.of_user(conf, context.ask("Your name on them", conf.user))
    if not conf.nodes:
        raise ConfigError("a cluster needs nodes", next_step="Name each: --node NAME=HOST:PORT.")
    met: Sequence[NodeCertificate] = ()
    if not flags["offline"]:
        conf, met = beginning.meet(conf)
        _tell_met(context, met)
    if asked and conf.geometry_needed is None:
        conf = _ask_geometry(context, beginning, conf)
    conf, choice = beginning.with_geometry(conf)
    _tell_choice(context, choice)
    line = "" if flags["dry_run"] else _login(context, beginning, conf, flags["key_file"])
    text = beginning.write(conf, path, force=flags["force"], dry_run=flags["dry_run"])
    values = {
        "conf": path,
        "nodes": [_record(node, met) for node in conf.nodes],
        "user": conf.user,
        "public_key": line.partition(" ")[2] or None,
        "geometry": {"needed": choice.needed, "total": choice.total},
        "may_die": choice.may_die,
        "may_miss_writing": choice.may_miss,
        "space_ratio": choice.space_ratio,
        "toml": text if flags["dry_run"] else None,
    }
    if flags["dry_run"]:
        context.emit("", values, text.rstrip("\n"))
        return
    client = "dfs client" if path == OUTPUT else f"dfs --conf {path} client"
    context.emit(
        "",
        values,
        f"Wrote {path} (0600). Each node's users file needs:\n\n  {line}\n\n"
        f"On each node: dfs user add {line}\n"
        f"Then: {client}  (the first command with all nodes up makes your vault)",
    )


# --- The dialogue -------------------------------------------------------------------------------------------


def _ask_nodes(context: CommandContext) -> tuple[str, ...]:
    if not context.asks:
        raise ConfigError(
            "no nodes are named, and there is no terminal to ask on",
            next_step="Name each: --node NAME=HOST:PORT.",
        )
    context.note("Which machines keep your files? One address a line, such as nas=10.0.0.2:7771; then Enter.")
    nodes: list[str] = []
    while answer := context.ask(f"Node {len(nodes) + 1}"):
        nodes.append(answer)
    return tuple(nodes)


def _ask_geometry(context: CommandContext, beginning: Any, conf: Any) -> Any:  # noqa: ANN401 - of dfs.beginning
    _, usual = beginning.with_geometry(conf)
    shown = beginning.choices(len(conf.nodes))
    if len(shown) > FEW:
        near = [each for each in shown if abs(each.needed - usual.needed) <= FEW // 2]
        shown = near
    context.note("How much safety, at which price?")
    for each in shown:
        mark = "  (usual)" if each == usual else ""
        context.note(f"  {each.needed} of {each.total}: {each.words}{mark}")
    answer = context.ask("Geometry", f"{usual.needed} of {usual.total}")
    return beginning.chosen(conf, answer)


def _login(context: CommandContext, beginning: Any, conf: Any, key_file: str | None) -> str:  # noqa: ANN401
    if key_file is not None and not beginning.is_there(key_file):
        context.new_key_file(key_file)
        context.note(f"Made the key file {key_file}. Keep a copy: without it nobody can read what is stored.")
    line: str = beginning.login(conf)
    return line


# --- What is told -------------------------------------------------------------------------------------------


def _tell_met(context: CommandContext, met: Sequence[NodeCertificate]) -> None:
    there = [node for node in met if not node.reason]
    pinned = [f"{node.name} {_short(node.shown)}" for node in there if node.shown]
    tail = f"; certificates pinned: {'  '.join(pinned)}" if pinned else ""
    context.note(f"{len(there)} of {len(met)} nodes answer{tail}")
    for node in met:
        if node.reason:
            context.note(
                f"warning: {node.name} {node.address}: {node.reason}. It stays in the conf, unpinned;"
                " all nodes must be up when the vault is made: dfs doctor"
            )
        elif node.known and node.shown and node.known != node.shown:
            context.note(
                f"warning: {node.name} {node.address} was known by {_short(node.known)} before."
                " If you did not set it up anew, find out what answers there  (DFS-E131)"
            )


def _tell_choice(context: CommandContext, choice: Any) -> None:  # noqa: ANN401 - dfs.beginning.GeometryChoice
    down = {
        0: "with any node down nothing can be stored",
        1: "with any 1 node down files can still be stored",
    }
    writing = down.get(choice.may_miss, f"with any {choice.may_miss} nodes down files can still be stored")
    context.note(f"Geometry {choice.needed} of {choice.total}: {choice.words}; {writing}.")


def _short(certificate: bytes) -> str:
    return f"SHA256:{certificate.hex()[:4]}..{certificate.hex()[-2:]}"


def _record(node: Any, met: Sequence[NodeCertificate]) -> dict[str, object]:  # noqa: ANN401
    reason = next((each.reason for each in met if each.name == node.name), "not asked")
    certificate = f"SHA256:{node.certificate.hex()}" if node.certificate else None
    return {"name": node.name, "address": node.address, "certificate": certificate, "reason": reason}


def make(_options: Options) -> click.Command:
    """Return the command."""
    return init


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="init", summary="make a conf, and say what may fail", make=make),)
