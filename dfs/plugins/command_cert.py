"""`dfs cert`: the certificates by which nodes are known."""

from collections.abc import Iterable

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    NodeCertificate,
    NotFoundError,
    Options,
    UnreachableError,
    hookimpl,
)

DFS_API_VERSION = 1


@click.group("cert")
def cert() -> None:
    """Show the certificates of the nodes, trust a new one, make one."""


@cert.command("show", epilog="Example: dfs cert show")
@click.pass_obj
def show(context: CommandContext) -> None:
    """Show the certificate of each node of the conf, as SHA-256, and whether it is the known one."""
    for node in context.certificates():
        expected = node.pinned or node.known
        shown = _fingerprint(node.shown) if node.shown else f"shows none: {node.reason or 'plain text'}"
        if node.shown and expected and expected != node.shown:
            state = f"CHANGED, known is {_fingerprint(expected)}"
        else:
            state = "pinned" if node.pinned else "known" if node.known else "not known yet"
        values = {
            "node": node.name,
            "address": node.address,
            "shown": _fingerprint(node.shown),
            "known": _fingerprint(expected),
        }
        context.emit("certificates", values, f"{node.name} {node.address}  {shown}  {state}")


@cert.command("trust", epilog="Example: dfs cert trust nas")
@click.argument("node")
@click.option("-n", "--dry-run", is_flag=True, help="Only show both certificates.")
@click.pass_obj
def trust(context: CommandContext, *, node: str, dry_run: bool) -> None:
    """Know a node by the certificate it shows now, as after its replacement; asks first."""
    found = _named(context, node)
    if found.pinned:
        raise ConfigError(
            f"the conf pins the certificate of {found.name}",
            next_step=f"Write {_fingerprint(found.shown) or 'the new one'} there.",
        )
    if not found.shown:
        raise UnreachableError(f"{found.name} {found.address} shows no certificate: {found.reason}")
    old, new = _fingerprint(found.known), _fingerprint(found.shown)
    values = {"node": found.name, "old": old, "new": new}
    if old == new:
        context.emit("", values, f"{found.name} is known by {new} already")
        return
    text = f"{found.name} {found.address}\n  old {old or 'none'}\n  new {new}"
    if dry_run:
        context.emit("", values, text)
    elif context.confirm(f"{text}\nTrust the new one?"):
        context.trust(found.address, found.shown)
        context.emit("", values, f"{found.name} is known by {new} now, before by {old or 'none'}")


@cert.command("new", epilog="Example: dfs cert new --dir DFS1, on the machine of the node")
@click.option("--dir", "directory", metavar="DIR", help="The node's directory; else that of its conf.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show the certificate it has.")
@click.pass_obj
def new(context: CommandContext, *, directory: str | None, dry_run: bool) -> None:
    """Give a node of this machine another certificate and private key; asks first.

    For when its key may be known to others. The node shows it from its next start on. Then every client has
    to trust it: dfs cert trust NODE.
    """
    planned = context.new_certificate(directory, plan_only=True)
    values = {"node": planned.name, "old": _fingerprint(planned.known), "new": ""}
    text = f"{planned.name}, directory {planned.address}\n  old {values['old']}"
    if dry_run:
        context.emit("", values, text)
    elif context.confirm(f"{text}\nMake another one? Every client will have to trust it."):
        made = context.new_certificate(directory, plan_only=False)
        values["new"] = _fingerprint(made.shown)
        context.emit("", values, f"{made.name} has {values['new']} now, before {values['old']}")
        context.note(f"Start the node anew. Then, on every client: dfs cert trust {made.name}")


def _named(context: CommandContext, name: str) -> NodeCertificate:
    nodes = context.certificates()
    for node in nodes:
        if name.lower() in {node.name.lower(), node.address.lower()}:
            return node
    names = ", ".join(node.name for node in nodes)
    raise NotFoundError(f"the conf has no node {name!r}", next_step=f"It has {names}.")


def _fingerprint(certificate: bytes) -> str:
    return f"SHA256:{certificate.hex()}" if certificate else ""


def make(_options: Options) -> click.Command:
    """Return the command."""
    return cert


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (
        CommandPlugin(name="cert", summary="show certificates of nodes, trust or make a new one", make=make),
    )
