"""`dfs user`: the users file of a node."""

import base64
import os
import tempfile
from collections.abc import Iterable

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    ConflictError,
    Options,
    hookimpl,
)

DFS_API_VERSION = 1
USERS_DEFAULT = "dfs.conf"
KEY_SIZE = 32


@click.group("user")
def user() -> None:
    """Add users to the users file of a node, convert passwords."""


@user.command("add")
@click.argument("name")
@click.option("--users", metavar="FILE", help="The users file of the node; ./dfs.conf, if nothing else.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show the line.")
@click.pass_obj
def add(context: CommandContext, *, name: str, users: str | None, dry_run: bool) -> None:
    """Add a user by the public key of their password; nodes see the change at once.

    The password comes from the conf (password_file, password_command, key_file), or is asked for.
    """
    if users is None and not os.path.isfile(USERS_DEFAULT):
        raise ConfigError(f"there is no ./{USERS_DEFAULT}", next_step="Name the users file: --users FILE.")
    path = users or USERS_DEFAULT
    before = _read(path)
    if name in context.user_names(before, path):
        raise ConflictError(
            f"{name} is in {path} already", next_step="Remove the line first, or take another name."
        )
    if list(context.user_names(context.user_lines(name, bytes(KEY_SIZE)).encode(), path)) != [name]:
        raise ConfigError(f"{name!r} cannot be a user name")
    key = context.login_key(name)
    lines = context.user_lines(name, key)
    if not dry_run:
        _replace(path, before + (b"" if before.endswith(b"\n") or not before else b"\n") + lines.encode())
    values = {"name": name, "public_key": f"ed25519:{base64.b64encode(key).decode()}", "file": path}
    context.emit("users", values, f"{'would add to' if dry_run else 'added to'} {path}: {lines.rstrip()}")


@user.command("convert")
@click.option("--users", metavar="FILE", help="The users file of the node; ./dfs.conf, if nothing else.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show the new file.")
@click.pass_obj
def convert(context: CommandContext, *, users: str | None, dry_run: bool) -> None:
    """Put a public key in the place of every password in clear text; the passwords stay what they are.

    Comments are not kept: they may hold passwords too.
    """
    path = users or USERS_DEFAULT
    if not os.path.isfile(path):
        raise ConfigError(f"there is no {path}", next_step="Name the users file: --users FILE.")
    content = _read(path)
    converted = context.keyed_users(content, path)
    names = context.user_names(converted.encode(), path)
    if not dry_run:
        _replace(path, converted.encode())
    for name in names:
        context.emit("users", {"name": name, "file": path}, "" if dry_run else f"{path}: {name} has a key")
    if dry_run:
        context.emit("", {}, converted.rstrip())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", file=path) from None


def _replace(path: str, content: bytes) -> None:
    """Put the whole new file in its place: a node reads the old one or the new one, never a part."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o600
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".users.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, os.path.realpath(path))
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", file=path) from None


def make(_options: Options) -> click.Command:
    """Return the command."""
    return user


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (
        CommandPlugin(
            name="user", summary="add users to the users file of a node, convert passwords", make=make
        ),
    )
