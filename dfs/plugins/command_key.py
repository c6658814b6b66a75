"""`dfs key`: key files, the public login key, recovery sheets, rotation of the vault's master key."""

import base64
import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    DfsError,
    Options,
    UnknownOutcomeError,
    hookimpl,
    listing,
    size_text,
)

DFS_API_VERSION = 1
KEY_FILE_DEFAULT = "dfs.key"


@click.group("key")
def key() -> None:
    """Key files and recovery sheets, which open a vault besides a password; another key for all in it."""


@key.command("new", epilog="Example: dfs key new backup.key")
@click.argument("file", default=KEY_FILE_DEFAULT)
@click.pass_obj
def new(context: CommandContext, *, file: str) -> None:
    """Make a key file: 32 random bytes in the place of a password, for programs. Nothing is ever overwritten.

    Name it in the conf (key_file), and put its public key into the users files of the nodes.
    """
    public_key = _public_text(context.new_key_file(file))
    context.emit("", {"file": file, "public_key": public_key}, f"{file}: {public_key}")
    context.note(f"Whoever has {file} is you; without it and without a recovery sheet nothing can be read.")


@key.command("show", epilog="Example: dfs key show --json")
@click.pass_obj
def show(context: CommandContext) -> None:
    """Show the public login key and where the secret comes from; never a secret. No node is asked."""
    facts = context.passwords().facts()
    public_key = _public_text(facts.public_key)
    values = {"user": facts.user, "realm": facts.realm, "source": facts.source, "public_key": public_key}
    lines = (
        f"user        {facts.user}",
        f"realm       {facts.realm}",
        f"secret      {facts.source}",
        f"public key  {public_key}",
        f"users file  {facts.user} {public_key}",
    )
    context.emit("", values, "\n".join(lines))


@key.command("export", epilog="Example: dfs key export, or dfs key export --output sheet.txt")
@click.option("--output", metavar="FILE", help="Into a new file, mode 0600, instead of the terminal.")
@click.option("--only", is_flag=True, help="Sheets made before open nothing any more.")
@click.pass_obj
def export(context: CommandContext, *, output: str | None, only: bool) -> None:
    """Make a recovery sheet to print: a fresh recovery key that opens the vault when the password is lost."""
    passwords = context.passwords()
    sheet = passwords.new_sheet()
    if output is None:
        if not sys.stdout.isatty():
            raise ConfigError(
                "a recovery sheet is shown on a terminal only", next_step="Name a file: --output FILE."
            )
        passwords.export(sheet, only=only)
        context.emit("", {"file": None}, sheet.text)
        return
    context.private_file(output, sheet.text)
    try:
        passwords.export(sheet, only=only)
    except UnknownOutcomeError:
        raise
    except DfsError:
        os.unlink(output)
        raise
    context.emit("", {"file": output}, f"recovery sheet in {output}: print it, then delete it")


@key.command("recover", epilog="Example: dfs key recover, or dfs key recover --sheet sheet.txt")
@click.option(
    "--sheet", metavar="FILE", help="The recovery sheet as a file (mode 0600); else it is asked for."
)
@click.option("--old-password", is_flag=True, help="The old password in place of a sheet; it is asked for.")
@click.option("--old-password-file", metavar="FILE", help="The same, from a file (mode 0600).")
@click.option("--old-key-file", metavar="FILE", help="The old key file in place of a sheet.")
@click.pass_obj
def recover(
    context: CommandContext,
    *,
    sheet: str | None,
    old_password: bool,
    old_password_file: str | None,
    old_key_file: str | None,
) -> None:
    """Open the vault by a recovery sheet, and let a new password open it from now on.

    A recovery key opens the vault, but is no login: first the administrator of each node has to put the new
    login key into its users file. Run this before; it says the line to put there. Then run it again, with the
    same new password.

    The new password comes from the conf, or is asked for twice. If the administrator gave you another
    password or key and you know the old one, --old-password does it without a sheet.
    """
    if sheet and (old_password or old_password_file or old_key_file):
        raise ConfigError("give a sheet or an old password, not both")
    has_former = old_password or old_password_file is not None or old_key_file is not None
    passwords = context.passwords()
    passwords.recover(sheet, has_former=has_former, password_file=old_password_file, key_file=old_key_file)
    context.emit("", {"recovered": True}, "The vault opens with the new password from now on.")
    if not has_former:
        context.note("The recovery sheet stays good. To make a new one in its place: dfs key export --only")


@key.command("rotate", epilog="Example: dfs key rotate -n, then dfs key rotate")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--abandon", is_flag=True, help="Remove an unfinished copy, while the old key is in force.")
@click.pass_obj
def rotate(context: CommandContext, *, dry_run: bool, abandon: bool) -> None:
    """Seal everything anew under a fresh master key, and remove what is under the former one.

    For when the master key may be known to somebody: whoever once opened the vault could have kept it, and
    another password does not change it. All files are fetched, sealed and stored again, so until the end
    there must be room for twice as much. Others work on meanwhile; only at the end nobody can write for a
    moment. Recovery sheets of before open nothing any more. If it is interrupted, run it again: it goes on
    where it ended. It ends with 3 while a node that is away keeps something of before.
    """
    if dry_run and abandon:
        raise ConfigError("--dry-run and --abandon exclude each other")
    with context.passwords().rotation() as rotation:
        if abandon:
            _abandon(context, rotation)
            return
        plan, stage = rotation.plan(), rotation.stage
        told = {"generation": plan.generation, "files": plan.files, "bytes": plan.size, "total": plan.total}
        _tell_plan(context, plan, stage, loses_sheets=rotation.loses_sheets)
        if dry_run:
            context.emit("", {"planned": told})
            return
        with context.meter("rotate", plan.size) as meter:
            done = rotation.run(entered=lambda stage: _tell_stage(context, stage.name), progress=meter)
        values = {
            "planned": told,
            "generation": done.generation,
            "entries": done.entries,
            "bytes": done.size,
            "left": list(done.left),
        }
        context.emit(
            "", values, f"The vault has key generation {done.generation}: all in it is sealed under that."
        )
        if rotation.loses_sheets:
            context.note("Recovery sheets of before open nothing any more. Make another one: dfs key export")
        context.note("Who knew the old key may have learned a password by it. To be sure: dfs passwd")
        if done.left:
            context.degrade(
                f"{listing(done.left)} still {'keeps' if len(done.left) == 1 else 'keep'} what was under the"
                " former key; when they are back, run dfs key rotate again to remove it"
            )


def _abandon(context: CommandContext, rotation: Any) -> None:  # noqa: ANN401 - dfs.passwords.KeyRotation
    left = rotation.abandon()
    context.emit("", {"abandoned": True, "left": list(left)}, "The vault keeps its key; the copy is removed.")
    if left:
        keeps = "keeps" if len(left) == 1 else "keep"
        context.degrade(
            f"{listing(left)} still {keeps} some of the copy; run it again when all nodes are back"
        )


def _tell_plan(context: CommandContext, plan: Any, stage: Any, *, loses_sheets: bool) -> None:  # noqa: ANN401
    """Say what is to be done: ``plan`` and ``stage`` are those of core/rotating.py."""
    if stage is not None:
        context.note("A rotation was begun before; this goes on with it.")
    if stage is not None and stage.name == "REMOVING":
        context.note("plan: to remove what is left under the former key")
        return
    files = "1 file" if plan.files == 1 else f"{plan.files} files"
    context.note(
        f"plan: {files} of {plan.total} to seal anew ({size_text(plan.size)}), under key generation"
        f" {plan.generation}; then to remove what is under the former key"
    )
    if loses_sheets:
        context.note("Recovery sheets made before will open nothing any more.")


def _tell_stage(context: CommandContext, stage: str) -> None:
    if stage == "CLOSED":
        context.note("Copied. Nobody can write while the last changes follow.")
    if stage == "REMOVING":
        context.note("The new key is in force, everybody can write. What is under the former one is removed.")


def _public_text(public_key: bytes) -> str:
    return f"ed25519:{base64.b64encode(public_key).decode()}"


def make(_options: Options) -> click.Command:
    """Return the command."""
    return key


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (
        CommandPlugin(
            name="key", summary="key files, recovery sheets: new show export recover; rotate", make=make
        ),
    )
