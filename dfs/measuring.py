"""Rates of this machine and of a cluster: what `dfs bench` measures."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from dfs.core.errors import ConfigError
from dfs.core.interface import CodeOptions, Options
from dfs.core.limits import CHUNK_SIZE, GIB, MIB
from dfs.core.records import frozen
from dfs.core.runner import core_count
from dfs.core.settings import ClientConf
from dfs.core.types import Geometry

if TYPE_CHECKING:
    from dfs.cluster import Cluster
    from dfs.core.registry import Registry

ROUND_COUNT_MIN: Final = 2
TRANSFER_SIZE: Final = 16 * MIB  # to begin with; doubled until a transfer lasts long enough
TRANSFER_SIZE_MAX: Final = 256 * MIB
NAME: Final = "dfs-bench"


@frozen
class Rate:
    """One rate. ``size``: plain bytes done in ``seconds`` of the clock and ``cpu_s`` of this process."""

    what: str
    size: int
    seconds: float
    cpu_s: float

    @property
    def mb_per_s(self) -> float:
        """Millions of bytes a second."""
        return self.size / max(self.seconds, 1e-9) / 1e6

    @property
    def cpu_s_per_gib(self) -> float:
        """Seconds of one processor for a GiB."""
        return self.cpu_s * GIB / max(1, self.size)


def measured(what: str, size: int, work: Callable[[], object], seconds: float) -> Rate:
    """Repeat ``work``, which does ``size`` bytes, for so long, and return its rate."""
    work()  # what is made at first use is not measured
    count, start_s, cpu_start_s = 0, time.perf_counter(), time.process_time()
    while count < ROUND_COUNT_MIN or time.perf_counter() - start_s < seconds:
        work()
        count += 1
    return Rate(what, size * count, time.perf_counter() - start_s, time.process_time() - cpu_start_s)


def stages(conf: ClientConf, registry: "Registry", seconds: float) -> Iterator[Rate]:
    """Yield the rate of each stage of a conf on one processor: chunks of 4 MiB that do not compress."""
    from blake3 import blake3

    chunk = os.urandom(CHUNK_SIZE)

    def plugin(kind: str, options: Options) -> Any:  # noqa: ANN401 - one of several behaviours
        found: Any = registry.get(f"dfs_{kind}s", getattr(conf, kind)).plugin
        return found.make(options)

    key = bytes(32)
    yield measured("name (blake3)", CHUNK_SIZE, lambda: blake3(chunk, key=key).digest(), seconds)
    compressor = plugin("compressor", Options(values=conf.plugins.get(conf.compressor, {})))
    yield measured(f"pack ({conf.compressor})", CHUNK_SIZE, lambda: compressor.compress(chunk), seconds)
    cipher = plugin("cipher", Options(values=conf.plugins.get(conf.cipher, {})))
    cipher_key, sealed = bytes(cipher.key_size), memoryview(bytearray(CHUNK_SIZE + cipher.overhead_size))
    plain = memoryview(bytearray(CHUNK_SIZE))
    seal = measured(
        f"seal ({conf.cipher})", CHUNK_SIZE, lambda: cipher.seal_into(cipher_key, b"", chunk, sealed), seconds
    )
    yield seal
    yield measured(
        f"open ({conf.cipher})", CHUNK_SIZE, lambda: cipher.open_into(cipher_key, b"", sealed, plain), seconds
    )
    yield from _code(conf, registry, chunk, seconds)


def _code(conf: ClientConf, registry: "Registry", chunk: bytes, seconds: float) -> Iterator[Rate]:
    found = registry.get("dfs_codes", conf.code).plugin
    total = conf.geometry_total or max(1, min(16, len(conf.nodes) or 4))
    wanted = Geometry(conf.geometry_needed or max(1, total // 2), total)
    geometry = found.fit(wanted)
    code = found.make(CodeOptions(values=conf.plugins.get(conf.code, {}), geometry=geometry))
    share_size = code.share_size(len(chunk))
    stripe = memoryview(bytearray(share_size * geometry.needed))
    stripe[: len(chunk)] = chunk
    parity = [memoryview(bytearray(share_size)) for _ in range(geometry.total - geometry.needed)]
    label = f"({conf.code}, {geometry.needed} of {geometry.total})"
    yield measured(f"encode {label}", len(chunk), lambda: code.encode_into(stripe, parity), seconds)
    lost = min(geometry.needed, len(parity))
    if not lost:
        return
    shares = {index: stripe[index * share_size :][:share_size] for index in range(lost, geometry.needed)}
    shares |= {geometry.needed + index: parity[index] for index in range(lost)}
    targets = {index: memoryview(bytearray(share_size)) for index in range(lost)}
    what = f"decode {label}, {lost} lost"
    yield measured(what, len(chunk), lambda: code.decode_into(shares, targets), seconds)


def disk(folder: str, seconds: float) -> Iterator[Rate]:
    """Yield how fast a folder takes chunks that must be on stable storage, and gives them back."""
    chunk = os.urandom(CHUNK_SIZE)
    try:
        made = tempfile.TemporaryDirectory(dir=folder, prefix=f"{NAME}-")
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    with made as place:
        path = os.path.join(place, "chunk")

        def write() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, chunk)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        def read() -> None:
            with open(path, "rb", buffering=0) as file:
                file.read()

        yield measured("disk write, synced", CHUNK_SIZE, write, seconds)
        yield measured("disk read, cached", CHUNK_SIZE, read, seconds)


def cluster(opened: "Cluster", seconds: float) -> Iterator[Rate]:
    """Yield how fast a cluster stores and gives back a file; it is removed again.

    Raises: DfsError.
    """
    name = f"{NAME}-{os.urandom(8).hex()}"
    size = TRANSFER_SIZE
    try:
        while True:
            source = BytesIO(os.urandom(size))
            put = _timed("put to the cluster", size, partial(opened.put, name, source))
            if put.seconds >= seconds or size >= TRANSFER_SIZE_MAX:
                break
            size *= 2
        yield put
        yield _timed("get from the cluster", size, lambda: opened.get(name, BytesIO()))
    finally:
        opened.rm(name)


def _timed(what: str, size: int, work: Callable[[], object]) -> Rate:
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    work()
    return Rate(what, size, time.perf_counter() - start_s, time.process_time() - cpu_start_s)


def suggested_jobs(rates: Sequence[Rate]) -> int:
    """Return how many chunks to work on at once: what keeps the processors busy while others wait."""
    cpu = sum(
        rate.cpu_s_per_gib for rate in rates if rate.what.split()[0] in {"name", "pack", "seal", "encode"}
    )
    waiting = next((rate for rate in rates if rate.what.startswith(("put", "disk write"))), None)
    if waiting is None or not cpu:
        return core_count()
    wait_s_per_gib = GIB / (waiting.mb_per_s * 1e6)
    return max(core_count(), min(4 * core_count(), round(core_count() + wait_s_per_gib / cpu)))
