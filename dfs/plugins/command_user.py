"""`dfs user`: the users file of a node. It is replaced as a whole, and nodes see the change at once."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from dfs.core.api import (
    CommandContext,
    CommandPlugin,
    ConfigError,
    Options,
    exact_size,
    hookimpl,
    listing,
    parse_size,
)

DFS_API_VERSION = 1
ROLES = ("user", "healer")
NO_QUOTA = "none"

Command = TypeVar("Command", bound=Callable[..., Any])


def _of_file(function: Command) -> Command:
    """Add what all commands that change the file have in common."""
    text = "The users file of the node; else that of its conf (--conf), or ./dfs.conf."
    function = click.option("--users", metavar="FILE", help=text)(function)
    return click.option("-n", "--dry-run", is_flag=True, help="Only show what would change.")(function)


@click.group("user")
def user() -> None:
    """Change the users file of a node: who may log in, by which key, and with how much room."""


@user.command("add", epilog="Example: dfs user add odile --quota 50GiB --users users")
@click.argument("name")
@click.argument("key", required=False)
@click.option("--quota", metavar="SIZE", help="At most so much on the node, such as 50GiB.")
@click.option("--role", type=click.Choice(ROLES), default="user", help="A healer repairs the vaults of all.")
@_of_file
@click.pass_obj
def add(
    context: CommandContext,
    *,
    name: str,
    key: str | None,
    quota: str | None,
    role: str,
    users: str | None,
    dry_run: bool,
) -> None:
    """Add a user by KEY (ed25519:...), or by the key of their password.

    Without KEY the password comes from the conf (password_file, password_command, key_file), or is asked for;
    nothing of it is kept.
    """
    path = context.users_path(users)
    size = None if quota is None else _size(quota)
    probe = context.user_record(name, f"ed25519:{'A' * 43}=", size, role)
    context.users_file(path).added(probe)  # before anybody is asked for a password
    record = context.user_record(name, key, size, role)
    _change(context, path, lambda file: file.added(record), f"added to {path}", [name], dry_run=dry_run)


@user.command("remove", epilog="Example: dfs user remove odile -n --users users")
@click.argument("name")
@_of_file
@click.pass_obj
def remove(context: CommandContext, *, name: str, users: str | None, dry_run: bool) -> None:
    """Let a user log in no more; what they stored stays where it is."""
    path = context.users_path(users)
    _change(context, path, lambda file: file.removed(name), f"removed from {path}", [name], dry_run=dry_run)
    if not dry_run:
        context.note(f"What {name} stored stays on the node: the line brings it back, with the same key.")


@user.command("list", epilog="Example: dfs user list --users users")
@click.option("--users", metavar="FILE", help="The users file of the node; else that of its conf.")
@click.pass_obj
def show(context: CommandContext, *, users: str | None) -> None:
    """Show who may log in: name, fingerprint of the key, quota, role."""
    path = context.users_path(users)
    _require_there(path)
    file = context.users_file(path)
    width = max((len(record.name) for record in file.records), default=0)
    for record in file.records:
        summary = context.user_summary(record)
        key = summary["fingerprint"] or "clear text"
        quota = f"quota {exact_size(record.quota)}" if record.quota is not None else "no quota of its own"
        context.emit("users", summary, f"{record.name:{width}}  {key:23}  {quota}  {record.role}")
    for warning in file.users.warnings:
        context.note(warning)


@user.command("quota", epilog="Example: dfs user quota odile 80GiB --users users")
@click.argument("name")
@click.argument("size")
@_of_file
@click.pass_obj
def bound(context: CommandContext, *, name: str, size: str, users: str | None, dry_run: bool) -> None:
    """Let a user take at most SIZE on the node, such as 50GiB; "none": what the node's conf says for all.

    A smaller one than is used loses nothing: only what takes more is refused.
    """
    quota = None if size == NO_QUOTA else _size(size, f'Or say "{NO_QUOTA}".')
    path = context.users_path(users)
    _change(context, path, lambda file: file.with_quota(name, quota), path, [name], dry_run=dry_run)


def _size(text: str, hint: str = "") -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise ConfigError(f"quota: {error.what}", next_step=hint) from None


@user.command("role", epilog="Example: dfs user role tom healer --users users")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
@_of_file
@click.pass_obj
def appoint(context: CommandContext, *, name: str, role: str, users: str | None, dry_run: bool) -> None:
    """Make a user a healer, who repairs the vaults of all without their keys, or a user again.

    A healer has no vault; what a user stored before comes back with the role.
    """
    path = context.users_path(users)
    _change(context, path, lambda file: file.with_role(name, role), path, [name], dry_run=dry_run)


@user.command("convert", epilog="Example: dfs user convert -n --users users")
@_of_file
@click.pass_obj
def convert(context: CommandContext, *, users: str | None, dry_run: bool) -> None:
    """Put a public key in the place of every password in clear text; the passwords stay what they are.

    Realm and key derivation are those of the node's conf (--conf), and its clients must have the same.
    """
    path = context.users_path(users)
    _require_there(path)
    names: list[str] = []
    leaks: list[int] = []

    def keyed(file: Any) -> Any:  # noqa: ANN401 - a UsersFile
        passwords = {record.name: record.password for record in file.records if record.password is not None}
        names.extend(passwords)
        leaks.extend(file.comments_with(passwords.values()))
        return file.with_keys(context.derived_keys(file))

    _change(context, path, keyed, f"{path} has keys now", names, dry_run=dry_run)
    for number in leaks:
        context.note(f"{path}: line {number}: a comment repeats one of the passwords; remove it by hand")
    if names:
        context.note(f"Confs of clients keep their passwords. They need: {context.login_terms()}")
    else:
        context.note(f"{path} has no password in clear text")


def _require_there(path: str) -> None:
    if not os.path.isfile(path):
        raise ConfigError(f"there is no {path}", next_step="Name the users file: --users FILE.")


# --- The file -----------------------------------------------------------------------------------------------


def _change(
    context: CommandContext,
    path: str,
    make: Callable[[Any], Any],
    done: str,
    names: "list[str]",
    *,
    dry_run: bool,
) -> None:
    """Change the file and tell of the users ``names``, which ``make`` may fill; with ``dry_run`` show it."""
    with contextlib.nullcontext() if dry_run else _locked(path):
        before = context.users_file(path)
        after = make(before)
        if after.raw != before.raw and not dry_run:
            _replace(path, after.raw)
    if dry_run:
        diff = before.diff(after)
        context.emit("", {"diff": diff}, diff or f"{path} stays as it is")
    records = {record.name: record for record in (*before.records, *after.records)}
    for name in names:
        summary = {**context.user_summary(records[name]), "file": path}
        context.emit("users", summary, "")
    if not dry_run and names:
        shown = listing([_told(context, records[name]) for name in names])
        context.emit("", {"changed": after.raw != before.raw}, f"{done}: {shown}")


def _told(context: CommandContext, record: Any) -> str:  # noqa: ANN401 - a UserRecord
    summary = context.user_summary(record)
    settings = f" quota={exact_size(record.quota)}" if record.quota is not None else ""
    settings += f" role={record.role}" if record.role != ROLES[0] else ""
    return f"{record.name} {summary['public_key'] or 'clear text'}{settings}"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Let no other `dfs user` change the file meanwhile: the folder is locked, for the file is replaced."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.name != "posix":
            yield
            return
        import fcntl  # only there

        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", file=path) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: str, content: bytes) -> None:
    """Put the whole new file in its place: a node reads the old one or the new one, never a part."""
    target = os.path.realpath(path)
    try:
        before = os.stat(target) if os.path.exists(target) else None
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".users.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                _take_owner(descriptor, before)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, target)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", file=path) from None


def _take_owner(descriptor: int, before: "os.stat_result | None") -> None:
    """Give the new file the mode of the old one, and its owner if we may."""
    if before is None:
        return  # 0600, as it was made
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)


def make(_options: Options) -> click.Command:
    """Return the command."""
    return user


@hookimpl
def dfs_commands() -> Iterable[CommandPlugin]:
    """Declare it."""
    return (CommandPlugin(name="user", summary="change the users file of a node", make=make),)
