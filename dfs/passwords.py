"""What opens the vault of a conf's user: passwords changed, key files and recovery sheets, kept logins.

The operations are in core/rekeying.py, what is printed is in the commands `passwd`, `key`, `login`, `logout`.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from dfs.cluster import client_options, make_registry
from dfs.core.client import Client, Opened
from dfs.core.credentials import (
    KnownMarks,
    LoginSecret,
    ask_line,
    ask_new_password,
    ask_password,
    kdf_of,
    key_file_text,
    private_file,
    secret_file,
    source_of,
)
from dfs.core.env import RealEnv
from dfs.core.errors import ConfigError, DfsError, LoginError, SealedError, UnknownOutcomeError
from dfs.core.kept import PLACES, KeptLogin, login_secret
from dfs.core.keys import KEY_FILE, SECRET_SIZE, login_keys
from dfs.core.places import state_folder, system_user
from dfs.core.records import evolve, field, frozen
from dfs.core.registry import Registry
from dfs.core.settings import ClientConf
from dfs.core.sheets import LINE_COUNT, read_line, read_sheet, sheet
from dfs.core.types import NodeId
from dfs.core.vaults import Owner

if TYPE_CHECKING:
    from dfs.core.rotating import Plan
    from dfs.core.wraps import Stage

ATTEMPT_COUNT: Final = 5  # how often a mistyped line is asked for


@frozen
class PasswordChange:
    """Names of the nodes that know the new password, and of those that are yet to be told."""

    acknowledged: tuple[str, ...]
    owed: tuple[str, ...]
    notes: tuple[str, ...]


@frozen
class LoginFacts:
    """Who somebody is at the nodes. ``source``: where the secret comes from, in words."""

    user: str
    realm: str
    source: str
    public_key: bytes


@frozen
class LoggedIn:
    """A login that succeeded. ``made``: the vault was made by it; ``kept``: in which place, "" = nowhere."""

    user: str
    made: bool
    node_count: int
    kept: str
    notes: tuple[str, ...] = field(default=())


@frozen
class KeyRotated:
    """The generation of the master key now, and what was copied under it by this run.

    ``left``: names of nodes that may keep something of the former one.
    """

    generation: int
    entries: int
    size: int
    left: tuple[str, ...]


@frozen
class RecoverySheet:
    """The text to be printed, with the recovery key, and the key itself."""

    text: str = field(repr=False)
    secret: bytes = field(repr=False)


class Passwords:
    """What opens the vault of a conf's user. ``registry``: the plugins that the conf lets in."""

    def __init__(self, conf: ClientConf, registry: Registry | None = None) -> None:
        self._conf: Final = conf
        self._registry: Final = registry or make_registry(conf)
        self._user: Final = conf.user or system_user()

    def facts(self) -> LoginFacts:
        """Return who the user is at the nodes; no node is asked. Raises: NoPasswordError, ConfigError."""
        secret = login_secret(self._conf)
        kept = f"kept by dfs login ({self._kept().place()})" if secret.was_kept else ""
        source = source_of(self._conf) or kept or "asked for"
        return LoginFacts(self._user, self._conf.realm, source, secret().public_key)

    # Passwords

    def change(self, *, password_file: str | None = None, key_file: str | None = None) -> PasswordChange:
        """Change the password: on the nodes that are there now, on the others at a later login.

        Without a file the new one is asked for twice.

        Raises:
            ForbiddenError: a node has it in clear text. ConflictError, QuorumError: the old one stays.
            UnknownOutcomeError: either may be the one; run it again.
        """
        new_conf = self._conf_of(password_file, key_file)
        secret = login_secret(self._conf)
        with self._opened(self._conf, secret) as (client, opened):  # a wrong one is told before more is asked
            new_secret = LoginSecret(new_conf, self._user, _ask_another)
            owner = Owner(self._conf.realm, self._user, kdf_of(new_conf), new_secret())
            client.change_password(opened.vault, owner)
        try:
            changed = self._first_use(new_conf, new_secret)
        except DfsError as error:
            raise UnknownOutcomeError(
                f"enough nodes have the new password, but it could not be used yet: {error.what}",
                kept="The old password is good until the new one is used.",
                next_step="Log in with the new one: dfs login.",
            ) from None
        self._keep_again(secret, new_secret, new_conf)
        return changed

    def _first_use(self, new_conf: ClientConf, new_secret: LoginSecret) -> PasswordChange:
        """Log in with a new password, which ends the old one."""
        with self._opened(new_conf, new_secret) as (_client, opened):
            names = {
                node.node_id: opened.vault.named([node.node_id]).partition(" ")[0]
                for node in opened.vault.roster.nodes
            }
        owed = tuple(name for node, name in names.items() if node in opened.owing)
        told = tuple(name for node, name in names.items() if node not in opened.owing)
        return PasswordChange(told, owed, (*opened.notes, *self._named_still("the old one")))

    def _named_still(self, what: str) -> list[str]:
        source = source_of(self._conf)
        return [f"The conf still names {what}: {source}"] if source else []

    def _keep_again(self, old: LoginSecret, new: LoginSecret, new_conf: ClientConf) -> None:
        kept = self._kept()
        place = kept.place()
        if place:  # what is kept is the old one, whether it was used now or not
            kept.forget()
        if old.was_kept and kdf_of(new_conf) == kdf_of(self._conf):
            kept.keep(new.secret(), place)

    def recover(
        self,
        sheet_file: str | None = None,
        *,
        has_former: bool = False,
        password_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        """Let the password of the conf, or a new one, open the vault by a recovery sheet or its old password.

        What has no file is asked for. ``has_former``: it is the old password or key, not a sheet.

        Raises:
            LoginError: the nodes do not know the new password yet; it says what to do. SealedError: the sheet
                or password is of another vault. ConflictError: nothing is to be recovered.
        """
        is_recovery = not has_former
        key = self._recovery_key(sheet_file) if is_recovery else self._former(password_file, key_file)
        secret = LoginSecret(evolve(self._conf, keyring=False), self._user, _ask_another)
        options = client_options(self._conf, self._registry, state_folder(), secret)
        client = Client(options)
        try:
            client.recover(key, is_recovery=is_recovery)
        except SealedError:
            raise SealedError(
                f"this {'recovery key' if is_recovery else 'old password'} opens no vault of {self._user}",
                kept="Nothing was changed.",
                next_step="Is it of this user, realm and cluster, and was it not replaced since?",
            ) from None
        except LoginError:
            raise LoginError(
                f"the nodes do not know the new password of {self._user} yet",
                kept="Nothing was changed.",
                next_step="Have this line put into the users file of every node, in the place of the old one,"
                f" and run this again: {self._user} {public_text(secret().public_key)}",
            ) from None
        finally:
            client.close()
        self._kept().forget()  # of the password that is over

    def _recovery_key(self, sheet_file: str | None) -> Owner:
        secret = typed_key() if sheet_file is None else sheet_secret(sheet_file)
        return Owner(self._conf.realm, self._user, KEY_FILE, login_keys(secret))

    def _former(self, password_file: str | None, key_file: str | None) -> Owner:
        old = self._conf_of(password_file, key_file)
        secret = LoginSecret(old, self._user, lambda user: ask_password(user, "Old password"))
        return Owner(old.realm, self._user, kdf_of(old), secret())

    # Recovery sheets

    def new_sheet(self) -> RecoverySheet:
        """Return a sheet with a fresh recovery key, which opens nothing yet."""
        env = RealEnv()
        secret = env.random_bytes(SECRET_SIZE)
        nodes = [f"{node.name} {node.address}" for node in self._conf.nodes]
        facts = {"Vault of": [self._user], "Realm": [self._conf.realm], "Nodes": nodes}
        made = dt.datetime.fromtimestamp(env.wall_s(), dt.UTC).date().isoformat()
        return RecoverySheet(sheet(secret, facts, made), secret)

    def export(self, made: RecoverySheet, *, only: bool) -> None:
        """Let a sheet open the vault. ``only``: sheets made before open nothing any more.

        Raises: ConfigError: there are too many. LoginError, ConflictError, QuorumError, UnknownOutcomeError.
        """
        with self._opened(self._conf, login_secret(self._conf)) as (client, opened):
            client.add_recovery(opened.vault, made.secret, only=only)

    # The master key

    @contextmanager
    def rotation(self) -> "Iterator[KeyRotation]":
        """Log in for a rotation of the vault's master key. Raises: LoginError, QuorumError, others."""
        with self._opened(self._conf, login_secret(self._conf)) as (client, opened):
            yield KeyRotation(client, opened)

    # Kept logins

    def log_in(self, place: str) -> LoggedIn:
        """Log in, and keep the secret in a ``place``, "" for nowhere. Raises: ConfigError, LoginError."""
        if place and self._conf.key_file:
            raise ConfigError(
                "the conf names a key file, which is asked for nothing: there is no more to keep"
            )
        if place and place not in PLACES:
            raise ConfigError(f"a login is kept in one of {', '.join(PLACES)}")
        secret = LoginSecret(evolve(self._conf, keyring=False), self._user)
        with self._opened(self._conf, secret) as (_client, opened):
            count = len(opened.vault.counted)
        notes = opened.notes
        if place:
            self._kept().keep(secret.secret(), place)
            notes = (*notes, *self._named_still("a password, which is used first"))
        return LoggedIn(self._user, opened.made, count, place, notes)

    def log_out(self) -> bool:
        """Forget what `log_in` kept; returns whether there was anything. Raises: ConfigError."""
        return self._kept().forget()

    def _kept(self) -> KeptLogin:
        return KeptLogin(state_folder(), self._conf, self._user)

    # A client

    def _conf_of(self, password_file: str | None, key_file: str | None) -> ClientConf:
        """Return the conf with this source of the password, and no other."""
        if password_file and key_file:
            raise ConfigError("give a password file or a key file, not both")
        bare = evolve(self._conf, users=(), password_command=None, keyring=False)
        return evolve(bare, password_file=password_file, key_file=key_file)

    @contextmanager
    def _opened(self, conf: ClientConf, secret: LoginSecret) -> Iterator[tuple[Client, Opened]]:
        state = state_folder()
        client = Client(client_options(conf, self._registry, state, secret))
        try:
            yield client, client.open()
            KnownMarks(state, conf.realm, self._user).keep(client.marks())
        finally:
            client.close()


class KeyRotation:
    """A rotation of the master key of a vault that is open for it."""

    def __init__(self, client: Client, opened: Opened) -> None:
        self._client = client
        self._vault = opened.vault
        self._wrap = client.wrap(opened.vault, client.owner())

    @property
    def stage(self) -> "Stage | None":
        """How far one has come that was begun before."""
        return self._wrap.ring.turn.stage if self._wrap.ring.turn is not None else None

    @property
    def loses_sheets(self) -> bool:
        """Whether there are recovery sheets, which open nothing afterwards."""
        return bool(self._wrap.ring.further)

    def plan(self) -> "Plan":
        """Return what is to be done. Raises: QuorumError, IncompleteError."""
        from dfs.core.rotating import plan

        return self._client.run(plan(self._vault, self._wrap))

    def abandon(self) -> tuple[str, ...]:
        """Remove an unfinished copy; returns names of nodes that may keep some. As `rotating.abandon`."""
        from dfs.core.rotating import abandon

        return self._named(self._client.run(abandon(self._vault, self._client.owner(), self._wrap)))

    def _named(self, nodes: Iterable[NodeId]) -> tuple[str, ...]:
        return tuple(sorted(self._vault.named([node]).partition(" ")[0] for node in nodes))

    def run(self, *, entered: Callable[["Stage"], object], progress: Callable[[int], object]) -> KeyRotated:
        """Rotate the key, or go on with it. ``entered``: told of each stage; ``progress``: of bytes copied.

        Raises: as `rotating.rotate`.
        """
        from dfs.core.rotating import Watch, rotate

        watch = Watch(entered, progress)
        owner, slots = self._client.owner(), self._client.slots()
        done = self._client.run(rotate(self._vault, owner, self._wrap, slots, watch))
        return KeyRotated(done.generation, done.entries, done.size, self._named(done.left))


def _ask_another(user: str) -> bytes:
    return ask_new_password(user, "New password")


def make_key_file(path: str) -> bytes:
    """Make a key file of 32 random bytes, 0600; returns its public login key.

    Raises:
        ConflictError: it is there already. ConfigError: it cannot be made.
    """
    secret = RealEnv().random_bytes(SECRET_SIZE)
    private_file(path, key_file_text(secret))
    return login_keys(secret).public_key


def sheet_secret(path: str) -> bytes:
    """Return the recovery key of a sheet in a file. Raises: SecretFileError, ConfigError."""
    return read_sheet(secret_file(path).decode("utf-8", "replace"), path)


def typed_key() -> bytes:
    """Ask for the lines of a recovery key on the terminal, each until it is right.

    Raises:
        NoPasswordError: there is no terminal. ConfigError: a line was wrong too often.
    """
    return b"".join(_typed_line(number) for number in range(1, LINE_COUNT + 1))


def _typed_line(number: int) -> bytes:
    fault = ""
    for _ in range(ATTEMPT_COUNT):
        try:
            return read_line(number, ask_line(f"{fault}Line {number} of the recovery key: "))
        except ConfigError as error:
            fault = f"{error.what}; once more.\n"
    raise ConfigError(f"line {number} of the recovery key was wrong {ATTEMPT_COUNT} times")


def public_text(public_key: bytes) -> str:
    """Return a public login key as a users file says it."""
    import base64

    return f"ed25519:{base64.b64encode(public_key).decode()}"
