"""The names in a vault: list, find, count, move and copy them, and say where their shares are.

It is the part of `Cluster` that works on names; paths are remote paths with "/", the root is "".
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from dfs.core import folders
from dfs.core.errors import ConfigError, ConflictError, DfsError, NotFoundError
from dfs.core.paths import ancestors, canonical, join, name_of, printable, relative_to
from dfs.core.records import frozen
from dfs.core.types import EntryKind
from dfs.opened import OpenVault

if TYPE_CHECKING:
    from dfs.core.effects import Operation
    from dfs.core.folders import Listed
    from dfs.core.renaming import Terms
    from dfs.core.standing import ChartRow, NodeStanding
    from dfs.core.types import Version

WILD: Final = frozenset("*?[")


@frozen
class Usage:
    """What is below a path. ``logical``: bytes of plain files; ``packed``: compressed; ``stored``: shares."""

    path: str
    kind: EntryKind
    file_count: int
    logical: int
    packed: int
    stored: int


@frozen
class Capacity:
    """What can still be stored. ``joint``: bytes that do not compress, at ``needed`` of ``total``.

    ``limits``: by node name, the nodes that are up, the bytes of shares each can take.
    """

    joint: int
    needed: int
    total: int
    limits: dict[str, int]


class Names(OpenVault):
    """What a `Cluster` does with names."""

    def ls(self, path: str = "") -> "list[Listed]":
        """Return the entries of a folder by name. Raises: NotFoundError, ConflictError, QuorumError."""
        return self._run(lambda: folders.list_folder(self._vault, canonical(path)))

    def walk(self, path: str = "") -> "list[Listed]":
        """Return everything below a folder, folders before what is in them."""
        return self._run(lambda: folders.walk(self._vault, canonical(path)))

    def stat(self, path: str) -> "Listed":
        """Return one entry. Raises: NotFoundError, QuorumError."""
        return self._run(lambda: folders.stat(self._vault, canonical(path)))

    def below(self, path: str) -> "list[Listed]":
        """Return everything below a folder, or the one entry of a file."""
        try:
            return self.walk(path)
        except ConflictError:  # it is a file
            return [self.stat(path)]

    def entries(self, path: str, *, recursive: bool = False) -> "list[Listed]":
        """Return one entry, and with ``recursive`` everything below it."""
        item = self.stat(path)
        return [item, *(self.walk(path) if recursive and item.entry.kind is EntryKind.FOLDER else [])]

    def match(self, pattern: str) -> list[str]:
        """Return the paths that a pattern with ``*``, ``?`` and ``[…]`` means, by name, or the path it is.

        A name that is there as it is written wins. ``*`` stays within one name; names that begin with a dot
        are meant only by patterns that do.
        Raises: NotFoundError: nothing fits.
        """
        path = canonical(pattern)
        if not is_pattern(path):
            return [path]
        found = [path] if self._exists(path) else self._matched(path)
        if not found:
            raise NotFoundError(f"{printable(path)}: no name is like this")
        return found

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except NotFoundError:
            return False
        return True

    def _matched(self, pattern: str) -> list[str]:
        found = [""]
        parts = pattern.split("/")
        for place, part in enumerate(parts, start=1):
            if not is_pattern(part):
                found = [join(folder, part) for folder in found]
                continue
            entries = [item.entry for folder in found for item in self._inside(folder)]
            found = [
                entry.path
                for entry in entries
                if fits(name_of(entry.path), part) and (place == len(parts) or entry.kind is EntryKind.FOLDER)
            ]
        return [path for path in found if is_pattern(parts[-1]) or self._exists(path)]

    def _inside(self, folder: str) -> "list[Listed]":
        try:
            return self.ls(folder)
        except (NotFoundError, ConflictError):  # a part of the pattern that is no folder
            return []

    def find(
        self,
        path: str = "",
        *,
        name: str | None = None,
        kind: EntryKind | None = None,
        larger: int | None = None,
        newer_s: float | None = None,
        exclude: Sequence[str] = (),
    ) -> "list[Listed]":
        """Return the entries below a folder that fit, in the order of `walk`.

        Args:
            name: a pattern for the last component. larger: more bytes than these. newer_s: changed after
                this time, seconds since 1970. exclude: patterns of names or paths below ``path``; what is
                below an excluded folder is left out too.
        """

        def left_out(below: str) -> bool:
            parts = [*ancestors(below), below]
            return any(
                fnmatchcase(each, glob)
                for part in parts
                for each in (part, name_of(part))
                for glob in exclude
            )

        top = canonical(path)
        found = []
        for item in self.below(path):
            entry = item.entry
            below = relative_to(entry.path, top) if entry.path != top else name_of(top)
            wanted = (
                (name is None or fnmatchcase(name_of(entry.path), name))
                and (kind is None or entry.kind is kind)
                and (larger is None or (entry.kind is EntryKind.FILE and entry.size > larger))
                and (newer_s is None or (entry.kind is EntryKind.FILE and entry.mtime_ns > newer_s * 1e9))
            )
            if wanted and not left_out(below):
                found.append(item)
        return found

    def usage(self, path: str = "") -> list[Usage]:
        """Return what is below a path: of each folder, deepest first, of the path itself last.

        Raises: NotFoundError, QuorumError.
        """
        top = canonical(path)
        items = self.below(top)
        if len(items) == 1 and items[0].entry.path == top and top:
            return [Usage(top, EntryKind.FILE, 1, *_sizes(items[0]))]
        sums = {
            folder: [0, 0, 0, 0]
            for folder in [
                top,
                *(item.entry.path for item in items if item.entry.kind is EntryKind.FOLDER),
            ]
        }
        for item in items:
            if item.entry.kind is EntryKind.FILE:
                for folder in {top, *ancestors(item.entry.path)} & sums.keys():
                    row = (1, *_sizes(item))
                    sums[folder] = [total + more for total, more in zip(sums[folder], row, strict=True)]
        ordered = sorted(sums, key=lambda folder: (folder == top, _deepest_first(folder)))
        return [Usage(folder, EntryKind.FOLDER, *sums[folder]) for folder in ordered]

    def chart(self, path: str = "", *, chunks: bool = False) -> "list[ChartRow]":
        """Return which node holds how much of each file below a path, or of each chunk."""
        from dfs.core.charting import chart

        return self._run(lambda: chart(self._vault, canonical(path), chunks=chunks))

    def mkdir(self, path: str, *, existing_is_fine: bool = False) -> None:
        """Make a folder and those above it. Raises: ConflictError: it is there already."""
        wanted = canonical(path)
        if not wanted:
            raise ConfigError("the root folder is always there")
        self._run(lambda: folders.make_folder(self._vault, wanted, existing_is_fine=existing_is_fine))

    def rm(self, path: str, *, recursive: bool = False, if_version: "Version | None" = None) -> list[str]:
        """Remove a file, or with ``recursive`` a folder and all below it; returns the paths removed."""
        wanted = canonical(path)
        if recursive and (not wanted or self.stat(wanted).entry.kind is EntryKind.FOLDER):
            return self._run(lambda: folders.remove_folder(self._vault, wanted))
        if not wanted:
            raise ConfigError("the root folder cannot be removed", next_step="Use rm -r to empty it.")
        outcomes = self._run(
            lambda: folders.remove_entries(self._vault, [wanted], kind=EntryKind.FILE, if_version=if_version)
        )
        outcome = outcomes[wanted]
        if isinstance(outcome, DfsError):
            raise outcome
        return [wanted]

    def rename(
        self, old: str, new: str, *, replace: bool = False, if_version: "Version | None" = None
    ) -> list[str]:
        """Rename a file or a folder; returns the new paths. ``replace``: a file at the new path gives way.

        ``if_version``: only if this version is at the old path.
        Raises: NotFoundError, ConflictError, others.
        """
        from dfs.core.renaming import Terms, rename

        return self._second_name(rename, old, new, Terms(replace, if_version))

    def copy(
        self, old: str, new: str, *, replace: bool = False, if_version: "Version | None" = None
    ) -> list[str]:
        """Give a file, or a folder and all below it, second names; returns those. Arguments as `rename`."""
        from dfs.core.renaming import Terms, copy

        return self._second_name(copy, old, new, Terms(replace, if_version))

    def _second_name(
        self, operation: "Callable[..., Operation[list[str]]]", old: str, new: str, terms: "Terms"
    ) -> list[str]:
        slots, paths = self._client.slots(), (canonical(old), canonical(new))
        return self._run(lambda: operation(self._vault, *paths, slots, terms))

    mv = rename  # as the commands are called
    cp = copy

    def target(self, path: str, sources: Sequence[str]) -> "dict[str, str]":
        """Return where each source goes that is moved or copied to a path: into it if it is a folder.

        Raises: ConfigError: several sources, and it is none.
        """
        wanted = canonical(path)
        is_folder = not wanted or (self._exists(wanted) and self.stat(wanted).entry.kind is EntryKind.FOLDER)
        if not is_folder and not path.endswith("/"):
            if len(sources) > 1:
                raise ConfigError(
                    f"{printable(path)} is no folder",
                    next_step="End it with / to make one, or name one source.",
                )
            return {sources[0]: wanted}
        return {source: join(wanted, name_of(source)) for source in sources}

    def capacity(self, standings: "Collection[NodeStanding]") -> Capacity:
        """Return what can still be stored as things stand; ``standings``: what `status` says."""
        stages = self._client.stages(self._vault)
        geometry, copies = stages.recipe.geometry, stages.code.copies
        limits = {
            each.name: max(0, min(each.free_size, _quota_left(each)))
            for each in standings
            if not each.reason and not each.read_only
        }
        group_size = min(self._vault.roster.group_size, len(limits))
        enough = group_size >= self._client.write_threshold(self._vault)
        share_size = joint_share_size(limits.values(), group_size, copies) if enough else 0
        return Capacity(share_size * geometry.needed, geometry.needed, geometry.total, limits)


def joint_share_size(limits: Collection[int], group_size: int, copies: int = 1) -> int:
    """Return how large the shares of one more file may be in all, if each group has this many nodes.

    Each node of a group takes ``copies`` shares of a stripe, and no node two parts of one, so T bytes fit if
    the nodes' parts of at most T each add up to ``group_size`` · T: the largest such T, found by halving.

    Args:
        limits: bytes that each node can take.
    """
    if not group_size:
        return 0
    low, high = 0, sum(limits) // group_size
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(limit, middle) for limit in limits) >= group_size * middle:
            low = middle
        else:
            high = middle - 1
    return low // copies


def _quota_left(standing: "NodeStanding") -> int:
    return standing.free_size if standing.quota is None else standing.quota - standing.charged_size


def _sizes(item: "Listed") -> tuple[int, int, int]:
    """Return logical, packed and stored bytes of a file."""
    inline = item.entry.manifest is None
    stored = item.packed_size * item.node_count if inline else item.stored_size
    return item.entry.size, item.packed_size, stored


def _deepest_first(folder: str) -> tuple[tuple[int, bytes], ...]:
    """Return what sorts folders behind all that is in them, and otherwise by name."""
    return tuple(_sort_parts(folder))


def _sort_parts(folder: str) -> Iterator[tuple[int, bytes]]:
    for part in filter(None, folder.split("/")):
        yield 0, part.encode()
    yield 1, b""


def is_pattern(path: str) -> bool:
    """Return whether a path may stand for others."""
    return bool(WILD.intersection(path))


def fits(name: str, pattern: str) -> bool:
    """Return whether a name is like a pattern; one that begins with a dot only if the pattern does too."""
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))
