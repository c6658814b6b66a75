"""`dfs bench`: how fast this machine packs, seals, encodes and writes, and how fast the cluster is."""

from collections.abc import Iterable
from typing import Any

import click

from dfs.core.api import CommandContext, CommandPlugin, Options, hookimpl

DFS_API_VERSION = 1
EXAMPLE = "Example: dfs bench --net, with your cluster; without one: dfs demo --keep, then with its --conf"


@click.command("bench", epilog=EXAMPLE)
@click.option(
    "--disk", metavar="DIR", default=".", show_default=True, help="Measure the disk of this folder."
)
@click.option("--net", is_flag=True, help="Store a file on the cluster, get it back and remove it.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.01, 3600),
    default=0.5,
    show_default=True,
    help="How long each measurement lasts, at least.",
)
@click.pass_obj
def bench(context: CommandContext, *, disk: str, net: bool, seconds: float) -> None:
    """Measure this machine's ciphers, codes and disk, one processor each, and the cluster with --net."""
    rates = []
    for rate in context.rates(disk=disk, net=net, seconds=seconds):
        rates.append(rate)
        values = {
            "what": rate.what,
            "mb_per_s": round(rate.mb_per_s, 1),
            "cpu_s_per_gib": round(rate.cpu_s_per_gib, 3),
        }
        context.emit("rows", values, _line(rate))
    jobs = context.suggested_jobs(rates)
    context.emit(
        "", {"jobs": jobs}, f"jobs = {jobs} would keep this machine busy; 0, the default, decides by itself."
    )


def _line(rate: Any) -> str:  # noqa: ANN401 - a dfs.measuring.Rate
    return f"{rate.what:40}  {rate.mb_per_s:8,.0f} MB/s  {rate.cpu_s_per_gib:8.3f} CPU s a GiB"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return bench


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="bench", summary="measure this machine, and the cluster", make=make),)
