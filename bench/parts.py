"""The building blocks alone: ciphers, compressors, codes, chunkers, built in or installed, and hashes.

Each at 4 KiB, 64 KiB, 1 MiB and 4 MiB, in one thread and in two. The line at 4 MiB in one thread also says
how long another thread was kept from running meanwhile (``stall_ms``: the longest pause a spinning thread
saw; some ms are the system's own). Lines of a code name the link that did the work.

Run: python bench/parts.py [--quick] [--geometry 2,4] [--only cipher] [--repeat 5]
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from attrs import field, frozen
from blake3 import blake3
from xxhash import xxh3_128_digest

from dfs.core.api import (
    Chunker,
    Cipher,
    Code,
    CodeOptions,
    Compressor,
    CompressorPlugin,
    Geometry,
    Options,
)
from dfs.core.registry import Registry
from dfs.plugins import BUILTIN
from inputs import SEED, make_sources
from lines import Report, significant
from rig import KIB, MIB, BenchError, Sample, main, make_parser, repeats, workshop

SIZES = (4 * KIB, 64 * KIB, MIB, 4 * MIB)
WINDOW_COUNT = 4  # windows of the largest chunk that a chunker's stream has
CONTEXT = b"bench"
STALL_S = 0.2
Call = Callable[[], object]


@frozen
class Part:
    """One thing to time. ``make``: a call with buffers of its own. ``text``: on Python sources."""

    kind: str
    op: str
    make: Callable[[memoryview], Call]
    text: bool = False
    sizes: Sequence[int] = SIZES
    variant: Mapping[str, object] = field(factory=dict)


# --- Calls over buffers of their own ------------------------------------------------------------------------


def room(size: int) -> memoryview:
    """Return a buffer whose pages are there."""
    return memoryview(bytearray(size))


def seal(cipher: Cipher, source: memoryview) -> Call:
    """Seal one buffer into another."""
    target = room(len(source) + cipher.overhead_size)
    return partial(cipher.seal_into, bytes(cipher.key_size), CONTEXT, source, target)


def unseal(cipher: Cipher, source: memoryview) -> Call:
    """Open what was sealed."""
    key, sealed = bytes(cipher.key_size), room(len(source) + cipher.overhead_size)
    cipher.seal_into(key, CONTEXT, source, sealed)
    return partial(cipher.open_into, key, CONTEXT, sealed, room(len(source)))


def _compressor(plugin: CompressorPlugin) -> Compressor:
    return plugin.make(Options())


def pack(plugin: CompressorPlugin, source: memoryview) -> Call:
    """Pack a buffer, or find that it had better stay plain."""
    return partial(_compressor(plugin).compress, source)


def unpack(plugin: CompressorPlugin, source: memoryview) -> Call:
    """Unpack what was packed."""
    compressor = _compressor(plugin)
    packed = compressor.compress(source)
    if packed is None:
        raise BenchError(f"{plugin.name} keeps Python sources plain")
    return partial(compressor.decompress_into, bytes(packed), room(len(source)))


def _shares(code: Code, source: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Return the padded stripe of a buffer, and where its parity goes."""
    size = code.share_size(len(source))
    stripe = room(code.geometry.needed * size)
    stripe[: len(source)] = source
    return stripe, [room(size) for _ in range(code.geometry.total - code.geometry.needed)]


def encode(code: Code, source: memoryview) -> Call:
    """Make parity."""
    return partial(code.encode_into, *_shares(code, source))


def decode(code: Code, lost: Sequence[int], source: memoryview) -> Call:
    """Bring back data shares from the others."""
    stripe, parity = _shares(code, source)
    code.encode_into(stripe, parity)
    size = code.share_size(len(source))
    shares = [stripe[offset : offset + size] for offset in range(0, len(stripe), size)] + parity
    kept = {index: share for index, share in enumerate(shares) if index not in lost}
    return partial(code.decode_into, kept, {index: room(size) for index in lost})


def cut(chunker: Chunker, source: memoryview) -> Call:
    """Cut a whole stream into chunks."""

    def perform() -> None:
        offset = 0
        while offset < len(source):
            window = source[offset : offset + chunker.chunk_size_max]
            offset += chunker.cut(window, final=offset + len(window) == len(source))

    return perform


# --- What there is ------------------------------------------------------------------------------------------


def ciphers(registry: Registry, _geometry: Geometry) -> Iterator[Part]:
    """Yield sealing and opening of each cipher."""
    for name in registry.names("dfs_ciphers"):
        cipher = registry.get("dfs_ciphers", name).plugin.make(Options())
        yield Part("cipher", f"{name} seal", partial(seal, cipher), variant={"cipher": name})
        yield Part("cipher", f"{name} open", partial(unseal, cipher), variant={"cipher": name})


def compressors(registry: Registry, _geometry: Geometry) -> Iterator[Part]:
    """Yield packing and unpacking of each compressor that packs at all."""
    for name in registry.names("dfs_compressors"):
        plugin = registry.get("dfs_compressors", name).plugin
        if _compressor(plugin).compress(room(64 * KIB)) is None:
            continue
        variant = {"compressor": name}
        yield Part("compressor", f"{name} pack, random", partial(pack, plugin), variant=variant)
        yield Part("compressor", f"{name} pack, text", partial(pack, plugin), text=True, variant=variant)
        yield Part("compressor", f"{name} unpack, text", partial(unpack, plugin), text=True, variant=variant)


def codes(registry: Registry, geometry: Geometry) -> Iterator[Part]:
    """Yield encoding of each code that has parity, and decoding with as many data shares lost as may be."""
    for name in registry.names("dfs_codes"):
        plugin = registry.get("dfs_codes", name).plugin
        code = plugin.make(CodeOptions(geometry=plugin.fit(geometry)))
        needed, total = code.geometry.needed, code.geometry.total
        if needed == total:
            continue
        lost = range(min(needed, total - needed))
        variant = {"code": name, "geometry": f"{needed},{total}", "code_link": getattr(code, "link", "")}
        yield Part("code", f"{name} encode", partial(encode, code), variant=variant)
        yield Part("code", f"{name} decode, {len(lost)} lost", partial(decode, code, lost), variant=variant)


def chunkers(registry: Registry, _geometry: Geometry) -> Iterator[Part]:
    """Yield cutting a stream with each chunker that looks at the bytes."""
    for name in registry.names("dfs_chunkers"):
        chunker = registry.get("dfs_chunkers", name).plugin.make(Options())
        if not chunker.fixed:
            sizes = (WINDOW_COUNT * chunker.chunk_size_max,)
            yield Part(
                "chunker", f"{name} cut", partial(cut, chunker), sizes=sizes, variant={"chunker": name}
            )


def _sha256(source: memoryview) -> bytes:
    return hashlib.sha256(source).digest()


def _blake2b(source: memoryview) -> bytes:
    return hashlib.blake2b(source, digest_size=32).digest()


def _blake3(source: memoryview) -> bytes:
    return blake3(source, key=bytes(32)).digest()


def _bound(digest: Callable[[memoryview], bytes], source: memoryview) -> Call:
    return partial(digest, source)


def hashes(_registry: Registry, _geometry: Geometry) -> Iterator[Part]:
    """Yield the hashes: the two dfs uses on bulk, and what they are compared with."""
    used: Mapping[str, Callable[[memoryview], bytes]] = {
        "xxh3-128": xxh3_128_digest,
        "blake3 keyed": _blake3,
        "sha-256": _sha256,
        "blake2b": _blake2b,
    }
    for name, digest in used.items():
        yield Part("hash", name, partial(_bound, digest))


KINDS: Mapping[str, Callable[[Registry, Geometry], Iterator[Part]]] = {
    "cipher": ciphers,
    "compressor": compressors,
    "code": codes,
    "chunker": chunkers,
    "hash": hashes,
}


# --- Timing -------------------------------------------------------------------------------------------------


def times(calls: Sequence[Call], count: int) -> float:
    """Return the seconds in which each of some threads makes its call so often."""
    begin = threading.Barrier(len(calls) + 1)

    def work(call: Call) -> None:
        begin.wait()
        for _ in range(count):
            call()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    begin.wait()
    started_s = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started_s


def count_for(call: Call, seconds: float) -> int:
    """Return how many calls take about so long, after the first ones that warm up."""
    call()
    started_s, count = time.perf_counter(), 0
    while time.perf_counter() - started_s < seconds / 4:
        call()
        count += 1
    return max(1, 4 * count)


def stall_ms(call: Call) -> float:
    """Return the longest pause of a spinning thread while another makes calls; the least of 3 rounds."""

    def spin(stop: threading.Event, pauses: list[float]) -> None:
        before = time.perf_counter()
        while not stop.is_set():
            now = time.perf_counter()
            pauses.append(now - before)
            before = now

    longest = []
    for _ in range(3):
        stop, pauses = threading.Event(), [0.0]
        spinner = threading.Thread(target=spin, args=(stop, pauses))
        spinner.start()
        ends_s = time.perf_counter() + STALL_S
        while time.perf_counter() < ends_s:
            call()
        stop.set()
        spinner.join()
        longest.append(max(pauses))
    return significant(min(longest) * 1000)


def measure(part: Part, size: int, source: memoryview, seconds: float, repeat: int, report: Report) -> None:
    """Time one part at one size, in one thread and in two."""
    for thread_count in (1, 2):
        calls = [part.make(source[:size]) for _ in range(thread_count)]
        count = count_for(calls[0], seconds)
        cpu_s, samples = time.process_time(), []
        for _ in range(repeat):
            samples.append(Sample(times(calls, count), cpu_nodes_s=0.0))
            samples[-1].cpu_client_s = time.process_time() - cpu_s
            cpu_s = time.process_time()
        label = f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"
        alone = thread_count == 1 and size == part.sizes[-1]
        report.add(
            part.kind,
            f"{part.op}, {label}, {thread_count} thread{'s' if thread_count > 1 else ''}",
            samples,
            size=count * thread_count * size,
            variant=part.variant,
            stall_ms=stall_ms(calls[0]) if alone else None,
        )


def _run() -> None:
    parser = make_parser(__doc__, limit_s=1800)
    parser.add_argument("--only", choices=list(KINDS), help="one kind")
    options = parser.parse_args()
    seconds, repeat = (0.02 if options.quick else 0.2), repeats(options, 2, 5)
    registry, geometry = Registry(BUILTIN), Geometry(*options.geometry)
    with workshop(options) as folder:
        report = Report("parts", options, folder, bare=True)
        kinds = [KINDS[options.only]] if options.only else list(KINDS.values())
        parts = [part for kind in kinds for part in kind(registry, geometry)]
        largest = max([SIZES[-1], *(size for part in parts for size in part.sizes)])
        text: Path = folder / "W2"
        make_sources(text, largest)
        texts, chances = memoryview(text.read_bytes()), memoryview(random.Random(SEED).randbytes(largest))
        for part in parts:
            for size in part.sizes:
                measure(part, size, texts if part.text else chances, seconds, repeat, report)
        report.end()


if __name__ == "__main__":
    main(_run)
