"""The error tree of dfs, and `invariant`.

Every error a user can meet is a `DfsError`: it says what happened, what was kept and what to do next. `code`
is the stable number users look up, `exit_code` the process status (only the command line reads it). Bytes
from disk, peers or people raise these; `assert` is for our own bugs; `invariant` guards data before it is
acknowledged or dropped.
"""

from collections.abc import Mapping
from typing import ClassVar, Final


class DfsError(Exception):
    """This is a bug in dfs; please report it.

    Args:
        what: one clause naming the fault and the thing it happened to.
        kept: what was not lost; the class default is used when empty.
        next_step: the command or action that ends the fault; the class default is used when empty.
    """

    code: ClassVar[str] = "DFS-E900"
    exit_code: ClassVar[int] = 1
    name: ClassVar[str] = "unexpected"
    retryable: ClassVar[bool] = False
    kept_default: ClassVar[str] = "Stored files are not touched."
    next_default: ClassVar[str] = "Run it again with --debug and report what it prints."

    def __init__(self, what: str, *, kept: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what: Final = what
        self.kept: Final = kept or self.kept_default
        self.next_step: Final = next_step or self.next_default

    @property
    def line(self) -> str:
        """The whole story in one line: what, what was kept, what to do, code."""
        stop = "" if self.what.endswith((".", "?", "!")) else "."
        return f"{self.what}{stop} {self.kept} {self.next_step}  ({self.code})"


class LocalProtocolError(DfsError):
    """This is a bug in dfs; please report it: our own side broke the protocol."""


class InvariantError(DfsError):
    """This is a bug in dfs; please report it: a rule that guards stored data was about to be broken."""


class ConfigError(DfsError):
    """The configuration or the command line is wrong.

    Args:
        file: path of the faulty file, or "" for flags and environment.
        line: 1-based, 0 when the fault has no line.
    """

    code = "DFS-E202"
    exit_code = 2
    name = "usage"
    kept_default = "Nothing was sent or written."
    next_default = "Mend it and run the command again."

    def __init__(
        self, what: str, *, file: str = "", line: int = 0, kept: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what, kept=kept, next_step=next_step)
        self.file: Final = file
        self.line_number: Final = line


class UnknownKeyError(ConfigError):
    """The configuration has a key that dfs does not know."""

    code = "DFS-E201"


class NoConfError(ConfigError):
    """No configuration file was found."""

    code = "DFS-E203"
    next_default = "Make one: dfs init. Or name one: --conf FILE."


class InsecureError(ConfigError):
    """An unauthenticated plugin was asked for without being allowed."""

    code = "DFS-E204"


class PasswordInEnvironmentError(ConfigError):
    """DFS_PASSWORD is set: other processes can read it."""

    code = "DFS-E205"
    next_default = "Unset it and use DFS_PASSWORD_FILE or DFS_PASSWORD_COMMAND."


class PluginError(ConfigError):
    """A plugin is broken."""

    code = "DFS-E502"


class UnknownPluginError(PluginError):
    """A plugin that is needed is not installed."""

    code = "DFS-E501"


class PluginConflictError(PluginError):
    """Two packages provide one plugin name."""

    code = "DFS-E503"


class PluginVersionError(PluginError):
    """A plugin was made for another version of the plugin interface."""

    code = "DFS-E504"


class MisspeltHookError(PluginError):
    """A plugin implements a hook that does not exist."""

    code = "DFS-E505"


class NotFoundError(DfsError):
    """There is no such file or directory."""

    code = "DFS-E404"
    exit_code = 4
    name = "not-found"
    kept_default = "Nothing was changed."
    next_default = "See what is there: dfs ls."


class IncompleteError(DfsError):
    """Fewer shares can be reached than are needed."""

    code = "DFS-E401"
    exit_code = 5
    name = "incomplete"
    retryable = True
    kept_default = "Nothing was written."
    next_default = "When more nodes are back, run this again."


class IntegrityError(DfsError):
    """Bytes read are not the bytes written."""

    code = "DFS-E402"
    exit_code = 6
    name = "corrupt"
    kept_default = "Nothing was written."
    next_default = "Run it again when all nodes are up; the other shares may still be good."


class CorruptShareError(IntegrityError):
    """A stored share is not what was stored."""


class CorruptEntryError(IntegrityError):
    """A stored entry is not authentic."""

    code = "DFS-E403"


class RollbackError(IntegrityError):
    """Nodes hold an older version than this client has seen."""

    code = "DFS-E405"
    kept_default = "Nothing was changed."
    next_default = (
        "If they were put back from a backup and the older version shall count: remove the folder"
        " floors from the client's state folder."
    )


class QuorumError(DfsError):
    """Too few nodes answered.

    Args:
        reasons: address -> why that node did not, when none answers.
    """

    code = "DFS-E302"
    exit_code = 7
    name = "no-quorum"
    retryable = True
    kept_default = "Nothing was changed."
    next_default = "Start the missing nodes and run this again."

    def __init__(
        self, what: str, *, kept: str = "", next_step: str = "", reasons: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(what, kept=kept, next_step=next_step)
        self.reasons: Final = dict(reasons or {})


class NodeError(QuorumError):
    """A node did not answer as it should."""

    code = "DFS-E306"


class UnreachableError(NodeError):
    """A node cannot be reached."""

    code = "DFS-E302"


class TimedOutError(NodeError):
    """A node did not answer in time."""

    code = "DFS-E305"


class StoreError(NodeError):
    """A node's disk failed; its vault is read-only now."""

    code = "DFS-E605"
    next_default = "Look at the node's log and disk, then restart the node."


class SpaceError(DfsError):
    """No space left, or the quota is used up."""

    exit_code = 8
    name = "full"
    code = "DFS-E601"
    kept_default = "Nothing was changed."
    next_default = "Remove something (dfs rm) or give the node more room."


class DiskFullError(SpaceError):
    """A node has no space left."""


class QuotaError(SpaceError):
    """The quota is used up."""

    code = "DFS-E602"
    next_default = "Remove something (dfs rm), or ask for more (dfs user quota, on the nodes)."


class ConflictError(DfsError):
    """It exists already or was changed meanwhile."""

    code = "DFS-E409"
    exit_code = 9
    name = "conflict"
    kept_default = "Nothing was changed."
    next_default = "Look at it (dfs ls -l), then decide."


class NotInitialisedError(DfsError):
    """Nothing is set up here yet."""

    code = "DFS-E603"
    exit_code = 10
    name = "not-initialised"
    kept_default = "Nothing was changed."
    next_default = "Start all nodes and run this again."


class BusyError(DfsError):
    """Another process is using it."""

    code = "DFS-E604"
    exit_code = 11
    name = "busy"
    retryable = True
    kept_default = "Nothing was changed."
    next_default = "Stop the other process or wait for it."


class AuthError(DfsError):
    """Wrong user or password, or not allowed."""

    code = "DFS-E101"
    exit_code = 12
    name = "denied"
    kept_default = "Nothing was sent but the login."
    next_default = "Check user and password in the conf."


class LoginError(AuthError):
    """Wrong user or password."""

    next_default = "Check user and password in the conf. Forgotten: dfs key recover."


class SealedError(LoginError):
    """The login is right, but the vault was sealed with another password."""


class NoPasswordError(AuthError):
    """No password, key file or terminal to ask on."""

    code = "DFS-E102"
    kept_default = "Nothing was sent."
    next_default = "Give password_file, password_command or key_file in the conf."


class SecretFileError(AuthError):
    """A file with a secret can be read by others."""

    code = "DFS-E121"
    kept_default = "Nothing was sent."


class ForbiddenError(AuthError):
    """The account may not do this."""


class PeerIdentityError(DfsError):
    """A node shows another certificate than the one it is known by."""

    code = "DFS-E131"
    exit_code = 13
    name = "mismatch"
    kept_default = "Nothing was sent to it."
    next_default = "If you replaced it: dfs cert trust NODE."


class UnknownCertificateError(PeerIdentityError):
    """A node shows a certificate that the conf does not pin."""

    code = "DFS-E132"


class CertificateRefusedError(PeerIdentityError):
    """The node does not take our certificate, or wants one and we show none."""

    code = "DFS-E134"
    kept_default = "Nothing was sent to it but that."
    next_default = "Name one that its client_ca signed: client_certificate and client_key in the conf."


class RealmError(DfsError):
    """The node belongs to another realm."""

    code = "DFS-E133"
    exit_code = 13
    name = "mismatch"
    kept_default = "Nothing was sent to it."
    next_default = "Give the same realm in the conf of node and client."


class ProtocolError(DfsError):
    """The wire protocol was broken."""

    code = "DFS-E510"
    exit_code = 13
    name = "mismatch"
    kept_default = "Nothing was changed."
    next_default = "Check that both sides run the same version of dfs and the same transport."


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""


class UnknownOutcomeError(DfsError):
    """The change may or may not have taken effect; run the same command again."""

    code = "DFS-E303"
    exit_code = 14
    name = "unknown"
    retryable = True
    kept_default = "The path holds the old or the new version, never a mix."
    next_default = "Run the same command again: it finds its own write."


def invariant(condition: bool, text: str) -> None:  # noqa: FBT001 - reads like assert, which it replaces
    """Raise InvariantError unless ``condition`` holds; unlike ``assert`` it survives ``python -O``.

    Raises:
        InvariantError: the condition is false.
    """
    if not condition:
        raise InvariantError(text)
