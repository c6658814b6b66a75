"""`put` and `get`: what their arguments mean, and what is said of each file."""

import os
import stat
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from dfs.cluster import Download, Upload
from dfs.context import Context
from dfs.core.errors import (
    ConfigError,
    ConflictError,
    DfsError,
    IncompleteError,
    NotFoundError,
    QuorumError,
    UnknownOutcomeError,
)
from dfs.core.local import FileContent, LocalError, content_of, excluded, tree
from dfs.core.paths import ancestors, canonical, join, name_of, parent_of, printable, relative_to
from dfs.core.records import frozen
from dfs.core.spans import Span
from dfs.core.types import EntryKind, Outcome, Version
from dfs.names import is_pattern
from dfs.output import DEGRADED, OK, error_record
from dfs.texts import (
    FILE_UNKNOWN,
    STALE_LINE,
    ciphers_of,
    count_text,
    degraded_line,
    detail,
    got_detail,
    insecure,
    label_name,
    listing,
)

if TYPE_CHECKING:
    from dfs.cluster import Cluster
    from dfs.core.getting import Got

STREAM: Final = "-"
PLAIN_FAILURES: Final = frozenset({2, 4, 9})  # exit codes of errors that say themselves which file and what


@frozen(kw_only=True)
class PutOptions:
    """The options of `put`. ``to``: the remote name or folder; None = by the last argument.

    ``mode``: permission bits, None = those of the local file.
    """

    to: str | None = None
    recursive: bool = False
    exclude: Sequence[str] = ()
    if_absent: bool = False
    if_version: Version | None = None
    allow_degraded: bool = False
    dry_run: bool = False
    mode: int | None = None


@frozen(kw_only=True)
class GetOptions:
    """The options of `get`. ``output``: the local file or folder, "-" = stdout, None = the current folder."""

    output: str | None = None
    recursive: bool = False
    exclude: Sequence[str] = ()
    no_clobber: bool = False
    dry_run: bool = False
    span: Span | None = None
    resume: bool = False

    def download(self, path: str, local: str) -> Download:
        """Return what fetches a file as these options say."""
        return Download(path, local, not self.no_clobber, self.span or Span(), self.resume)


@frozen
class _Target:
    """Where uploads go: into ``folder``, under their own names or the one ``name``."""

    folder: str
    name: str | None = None

    def path_of(self, name: str) -> str:
        return canonical(join(self.folder, self.name or name))


@frozen
class _Uploads:
    """What an argument of `put` stands for; ``folders`` are made even if nothing is in them."""

    uploads: Sequence[Upload] = ()
    folders: Sequence[str] = ()
    errors: Sequence[DfsError] = ()


# --- Put ----------------------------------------------------------------------------------------------------


def put(context: Context, words: Sequence[str], options: PutOptions) -> None:
    """Store what the arguments name; every failure is told with its name, in their order."""
    words = words if STREAM in words else _globbed(words)
    planned = (
        _planned_stream(context, words, options) if STREAM in words else _planned(context, words, options)
    )
    uploads = [upload for each in planned for upload in each.uploads]
    folders = [folder for each in planned for folder in each.folders]
    _refuse_twice([upload.path for upload in uploads])
    if options.mode is not None:
        for upload in uploads:
            upload.content.mode = options.mode
    for each in planned:
        for error in each.errors:
            context.fail(error)
    if options.dry_run:
        for upload in uploads:
            _emit_plan(context, _local_name(upload), upload.path, upload.content.size)
        return
    if uploads:
        _put_all(context, uploads, options)
    if context.status in {OK, DEGRADED}:
        _make_folders(context, folders, uploads)


def _globbed(words: Sequence[str]) -> list[str]:
    """Return local names, patterns replaced by the files like them: at the prompt no shell does it."""
    if not any(mark in word for word in words for mark in "*?["):
        return list(words)
    from glob import escape, glob

    named: list[str] = []
    for word in words:
        found = sorted(glob(word)) if word != escape(word) and not os.path.lexists(word) else []
        named.extend(found or [word])
    return named


def _planned_stream(context: Context, words: Sequence[str], options: PutOptions) -> list[_Uploads]:
    if list(words) != [STREAM] or options.to is None or not (path := context.remote(options.to)):
        raise ConfigError("'-' is the only thing stored by its command, and --to names it")
    content = content_of(sys.stdin.buffer, time.time_ns())
    return [_Uploads([Upload(content, path)])]


def _planned(context: Context, words: Sequence[str], options: PutOptions) -> list[_Uploads]:
    """Return what each argument stands for; local faults are found before anything is sent."""
    if options.to is not None:
        context.remote(options.to)  # a bad name is told first
    if len(set(words)) < len(words):
        raise ConfigError("a file is named twice", next_step="Name it once.")
    ambiguous = options.to is None and not options.recursive and len(words) > 1
    certain = words[:-1] if ambiguous else words
    contents = {word: _content(word, recursive=options.recursive) for word in certain}
    hopeless = all(content.errors for content in contents.values())
    if hopeless and not (ambiguous and os.path.isfile(words[-1])):
        return list(contents.values())
    target = _put_target(context, words, options)
    if ambiguous and target is None:
        contents[words[-1]] = _content(words[-1], recursive=False)
    return [_placed(word, content, target or _Target(""), options) for word, content in contents.items()]


def _content(word: str, *, recursive: bool) -> _Uploads:
    if recursive and os.path.isdir(word):
        return _Uploads()
    try:
        return _Uploads([Upload(FileContent(word), "")])
    except DfsError as error:
        return _Uploads(errors=[error])


def _put_target(context: Context, words: Sequence[str], options: PutOptions) -> _Target | None:
    """Return where uploads go; None: to the top, and the last argument is one of them."""
    last = words[-1]
    if options.to is not None:
        path = context.remote(options.to)
        if options.to.endswith("/") or not path or len(words) > 1 or _is_folder(context, path):
            return _Target(path)
        return _Target(parent_of(path), name_of(path))
    if options.recursive or len(words) == 1:
        return _Target("")
    path = context.remote(last)
    if last.endswith("/") or _is_folder(context, path):
        return _Target(path)
    if os.path.exists(last) or len(words) != 2:
        return None
    return _Target(parent_of(path), name_of(path))


def _is_folder(context: Context, path: str) -> bool:
    try:
        return context.cluster().stat(path).entry.kind is EntryKind.FOLDER
    except (NotFoundError, QuorumError):  # with too few nodes the command itself will fail, in its own words
        return False


def _placed(word: str, content: _Uploads, target: _Target, options: PutOptions) -> _Uploads:
    """Give what an argument stands for its remote paths."""
    try:
        if content.errors:
            return content
        name = os.path.basename(os.path.abspath(word))
        if content.uploads:
            return _Uploads([Upload(content.uploads[0].content, target.path_of(name))])
        return _placed_tree(
            word, target.path_of(name) if name or target.name else target.folder, options.exclude
        )
    except DfsError as error:
        return _Uploads(errors=[error])


def _placed_tree(root: str, prefix: str, exclude: Sequence[str]) -> _Uploads:
    uploads, folders, errors = [], [prefix] if prefix else [], []
    for local, relative, is_folder in tree(root, exclude):
        try:
            path = canonical(join(prefix, relative))
            if is_folder:
                folders.append(path)
            else:
                uploads.append(Upload(FileContent(local), path))
        except DfsError as error:
            errors.append(error)
    return _Uploads(uploads, folders, errors)


def _refuse_twice(paths: Sequence[str]) -> None:
    if len(set(paths)) == len(paths):
        return
    twice = next(path for index, path in enumerate(paths) if path in paths[:index])
    raise ConfigError(f"two arguments are both called {printable(twice)}", next_step="Name them one by one.")


def _emit_plan(context: Context, source: str, target: str, size: int | None) -> None:
    context.emit(
        "files",
        {"from": source, "to": target, "size": size},
        f"would copy {printable(source)} -> {printable(target)}",
    )


def _local_name(upload: Upload) -> str:
    return upload.content.path if isinstance(upload.content, FileContent) else STREAM


def _make_folders(context: Context, folders: Sequence[str], uploads: Sequence[Upload]) -> None:
    """Make the folders that no upload makes."""
    made = {folder for upload in uploads for folder in ancestors(upload.path)}
    for folder in folders:
        if folder not in made:
            context.cluster().mkdir(folder, existing_is_fine=True)


def _put_all(context: Context, uploads: Sequence[Upload], options: PutOptions) -> None:
    sizes = [upload.content.size for upload in uploads]
    total_size = sum(size or 0 for size in sizes) if None not in sizes else None
    outcomes: Sequence[Outcome | DfsError]
    try:
        cluster = context.cluster()
    except QuorumError as error:
        _report_failures(context, uploads, [error] * len(uploads))
        return
    if warning := insecure(cluster.conf.cipher, cluster.conf.allow_insecure):
        context.output.warn(warning)
    label = uploads[0].path if len(uploads) == 1 else count_text(len(uploads), "file")
    with context.meter(label, total_size) as meter:
        meter.remark = partial(nodes_remark, cluster)
        outcomes = cluster.put_files(
            uploads,
            if_version=options.if_version,
            if_absent=options.if_absent,
            allow_degraded=options.allow_degraded,
            progress=meter,
            watch=meter.file if meter.active and len(uploads) > 1 else None,
        )
    for outcome in outcomes:
        if isinstance(outcome, Outcome):
            _report_outcome(context, cluster, outcome)
    _report_failures(context, uploads, outcomes)
    if context.flags.get("stats"):
        stored = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        sent_size, size = (sum(getattr(each, name) for each in stored) for name in ("sent_size", "size"))
        sys.stderr.write(f"stats: shares: {sent_size} bytes sent for {size} bytes of files\n")


def nodes_remark(cluster: "Cluster") -> str:
    """Return which nodes a transfer uses: ``4 nodes``, ``3 of 4 nodes, dfs3 down``."""
    states = cluster.traffic()
    down = [printable(state.name) for state in states if state.down]
    if not down:
        return count_text(len(states), "node")
    return f"{len(states) - len(down)} of {len(states)} nodes, {listing(down)} down"


def _report_outcome(context: Context, cluster: "Cluster", outcome: Outcome) -> None:
    values = {
        "path": outcome.path,
        "size": outcome.size,
        "sent_bytes": outcome.sent_size,
        "stored_bytes": outcome.stored_size,
        "shares": outcome.node_count,
        "total": outcome.node_total,
        "survives": outcome.survives,
        "version": outcome.version.hex(),
        "outcome": outcome.kind.value,
    }
    context.output.note(f"{printable(outcome.path)}  {detail(outcome)}")
    context.emit("files", values)
    if outcome.node_count < outcome.node_total:
        context.degrade(degraded_line(outcome, cluster.node_names, cluster.traffic()), strict=True)


def _report_failures(
    context: Context, uploads: Sequence[Upload], outcomes: Sequence[Outcome | DfsError]
) -> None:
    """Tell what could not be stored; a reason that several files share stands behind the last of them."""
    failures = [
        (upload.path, outcome)
        for upload, outcome in zip(uploads, outcomes, strict=True)
        if isinstance(outcome, DfsError)
    ]
    for index, (path, error) in enumerate(failures):
        repeated = index + 1 < len(failures) and failures[index + 1][1] is error
        context.emit("files", {"path": path, "outcome": "failed", "error": error_record(error)})
        context.fail(error, _put_failure(printable(path), error, reason=not repeated))


def _put_failure(name: str, error: DfsError, *, reason: bool) -> str:
    if error.exit_code in PLAIN_FAILURES:
        return _plain_failure(name, error)
    if isinstance(error, UnknownOutcomeError):
        head = f"{name} put not confirmed: old or new, never a mix"
    else:
        head = f"{name} put failed"
    return f"{head}\n{error.line}" if reason else head


def _plain_failure(name: str, error: DfsError) -> str:
    told = error.what.startswith((f"{name} ", f"{name}:"))
    return error.line if told else f"{name}: {error.line}"


# --- Get ----------------------------------------------------------------------------------------------------


def get(context: Context, words: Sequence[str], options: GetOptions) -> None:
    """Fetch what the arguments name; every failure is told with its name, in their order."""
    if options.resume and (options.span is not None or options.output == STREAM):
        raise ConfigError(
            "--resume is for whole files", next_step="Leave out --range or '-o -', or --resume."
        )
    if options.output == STREAM:
        _get_stream(context, words, options)
        return
    paths = _matched(context, _get_paths(context, words, options))
    if not paths:
        return
    wanted = _wanted_trees(context, paths, options) if options.recursive else _wanted_files(paths, options)
    _refuse_twice([os.path.normpath(download.local) for download in wanted])
    if options.dry_run:
        for download in wanted:
            _emit_plan(context, download.path, download.local, None)
        return
    if wanted:
        _get_all(context, wanted)


def _get_stream(context: Context, words: Sequence[str], options: GetOptions) -> None:
    if len(words) != 1:
        raise ConfigError("'-o -' takes one file")
    if context.output.structured:
        raise ConfigError("'-o -' and --json both want stdout")
    path = context.remote(words[0])
    cluster = context.cluster()
    started_s = time.monotonic()
    try:
        got = cluster.get(path, sys.stdout.buffer, span=options.span or Span())
    except DfsError as error:
        context.fail(error, _get_failure(path, error))
        return
    _report_got(context, cluster, Download(path, STREAM), got, time.monotonic() - started_s)
    _warn_of_ciphers(context, cluster, [got])
    if got.stale:
        context.degrade(STALE_LINE, strict=False)


def _matched(context: Context, paths: Sequence[str]) -> list[str]:
    """Return remote paths, patterns replaced by the names like them; what fits nothing is told of."""
    found: list[str] = []
    for path in paths:
        if is_pattern(path):
            found.extend(context.matched([path]))
        else:
            found.append(path)
    return found


def _get_paths(context: Context, words: Sequence[str], options: GetOptions) -> list[str]:
    """Return the remote paths; the last argument may be the folder of the others."""
    last = words[-1]
    if len(words) > 1 and not options.recursive:
        folder = context.remote(last)
        if last.endswith("/") or (options.output is None and _is_folder(context, folder)):
            return [canonical(join(folder, context.remote(word))) for word in words[:-1]]
    return [context.remote(word) for word in words]


def _base_folder(paths: Sequence[str], options: GetOptions) -> str | None:
    """Return the local folder that files go into, made if need be; None: --output names the file itself."""
    output = options.output
    if output is None:
        return ""
    if not (os.path.isdir(output) or output.endswith("/") or len(paths) > 1):
        return None
    if not options.dry_run:
        _make_local_folder(output)
    return output


def _make_local_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{printable(path)}: {error.strerror}") from None


def _wanted_files(paths: Sequence[str], options: GetOptions) -> list[Download]:
    if "" in paths:
        raise ConfigError("the root is a folder", next_step="Get it with -r.")
    base = _base_folder(paths, options)
    return [
        options.download(path, (options.output or "") if base is None else os.path.join(base, name_of(path)))
        for path in paths
    ]


def _wanted_trees(context: Context, paths: Sequence[str], options: GetOptions) -> list[Download]:
    base = _base_folder(paths, options)
    context.cluster()  # what keeps it from opening is no path's fault
    wanted = []
    for path in paths:
        try:
            wanted.extend(_wanted_tree(context, path, base, options))
        except DfsError as error:
            context.fail(error, _get_failure(path, error))
    return wanted


def _wanted_tree(context: Context, path: str, base: str | None, options: GetOptions) -> list[Download]:
    """Return the files below a folder and make the local folders they go into."""
    if path and context.cluster().stat(path).entry.kind is EntryKind.FILE:
        local = (options.output or "") if base is None else os.path.join(base, name_of(path))
        return [options.download(path, local)]
    top = base if base is not None else options.output or ""
    prefix = name_of(path) if base is not None else ""  # without a base, --output is the folder itself
    if not options.dry_run:
        _make_local_folder(top or os.curdir)
        _make_folder_below(top, prefix)
    downloads = []
    for item in context.cluster().walk(path):
        relative = relative_to(item.entry.path, path)
        if any(excluded(part, options.exclude) for part in [*ancestors(relative), relative]):
            continue
        below = join(prefix, relative)
        if item.entry.kind is EntryKind.FILE:
            downloads.append(options.download(item.entry.path, os.path.join(top, *below.split("/"))))
        elif not options.dry_run:
            _make_folder_below(top, below)
    return downloads


def _make_folder_below(top: str, relative: str) -> None:
    """Make a folder; what is there already must be a folder, and no link that leads elsewhere."""
    path = top
    for part in filter(None, relative.split("/")):
        path = os.path.join(path, part)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                text = f"{printable(path)} is in the way: not a folder"
                raise ConflictError(text, next_step="Move it away.") from None
        except OSError as error:
            raise LocalError(f"{printable(path)}: {error.strerror}") from None


def _get_all(context: Context, wanted: Sequence[Download]) -> None:
    cluster = context.cluster()
    label = wanted[0].path if len(wanted) == 1 else count_text(len(wanted), "file")
    with context.meter(label, None) as meter:
        meter.remark = partial(nodes_remark, cluster)
        if meter.active and len(wanted) == 1:
            meter.total_size = _size_of(cluster, wanted[0].path)
        watch = meter.file if meter.active and len(wanted) > 1 else None
        results = cluster.get_files(wanted, progress=meter, watch=watch)
        seconds = meter.seconds
    for download, result in zip(wanted, results, strict=True):
        if isinstance(result, DfsError):
            failed = {"path": download.path, "outcome": "failed", "error": error_record(result)}
            context.emit("files", failed)
            context.fail(result, _get_failure(download.path, result))
        else:
            _report_got(context, cluster, download, result, seconds)
    done = [result for result in results if not isinstance(result, DfsError)]
    _warn_of_ciphers(context, cluster, done)
    if any(got.stale for got in done):
        context.degrade(STALE_LINE, strict=False)
    if context.flags.get("stats"):
        received_size = sum(sum(got.received.values()) for got in done)
        needed_size = sum(got.needed_size for got in done)
        sys.stderr.write(f"stats: shares: {received_size} bytes received, {needed_size} needed\n")


def _warn_of_ciphers(context: Context, cluster: "Cluster", done: "Sequence[Got]") -> None:
    """Warn once of each cipher that was allowed although it protects nothing."""
    for cipher in sorted(ciphers_of(done)):
        if warning := insecure(cipher, cluster.conf.allow_insecure):
            context.output.warn(warning)


def _size_of(cluster: "Cluster", path: str) -> int | None:
    """Return the size of a remote file, for a progress bar; None where that is not easily known."""
    try:
        return cluster.stat(path).entry.size
    except DfsError:  # the transfer will say it
        return None


def _report_got(context: Context, cluster: "Cluster", download: Download, got: "Got", seconds: float) -> None:
    labels = cluster.node_names
    received = {label_name(labels, node): size for node, size in got.received.items()}
    shown = printable(download.path)
    context.output.note(f"{shown}  {got_detail(got, labels, seconds)}")
    context.emit(
        "files",
        {
            "path": download.path,
            "local": download.local,
            "size": got.size,
            "seconds": round(seconds, 3),
            "bytes_by_node": received,
            "extra_bytes": max(0, sum(received.values()) - got.needed_size),
            "stale": got.stale,
            "outcome": "ok",
        },
    )
    if got.suspects:
        names = listing(sorted(label_name(labels, node) for node in got.suspects))
        context.output.warn(
            f"{shown}: shares on {names} are not what was stored there; the others were enough."
            " To make them good again, put the file again  (DFS-E402)"
        )


def _get_failure(path: str, error: DfsError) -> str:
    name = printable(path)
    if isinstance(error, IncompleteError):
        return f"{name} is incomplete: {error.line}"
    if isinstance(error, NotFoundError) and error.what.endswith("does not exist"):
        return f"{name}: {FILE_UNKNOWN} {error.kept} {error.next_step}  ({error.code})"
    return _plain_failure(name, error)
