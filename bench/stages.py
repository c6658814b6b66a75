"""The line of data in one process and thread: what each stage of PUT and GET costs, without nodes.

read → pack → name → seal → encode → checksum, and back: decode → open → unpack → write, each stage timed
over all chunks of a file; then the whole as dfs runs it (`make_stripe`, `open_stripe`), and the largest
amount of memory a chunk allocates on its way (`peak_allocated_bytes`; buffers of the slot are there
already).

Run: python bench/stages.py [--quick] [--geometry 2,4] [--repeat 5]
"""

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field
from xxhash import xxh3_128_digest

from dfs.core import keys as keyring
from dfs.core.api import CodeOptions, Geometry, Options, PlacementOptions
from dfs.core.pipeline import CHUNK_CONTEXT, Packer, Slot, Stages, Stripe, make_stripe, open_stripe, pieces
from dfs.core.registry import Registry
from dfs.core.roster import rank
from dfs.core.types import CODEC_PLAIN, Chunk, Plain, Recipe
from dfs.plugins import BUILTIN
from inputs import make_random, make_sources, sizes
from lines import Report
from rig import MIB, BenchError, Sample, main, make_parser, repeats, workshop

CHUNK_SIZE = 4 * MIB
KEYS = keyring.vault_keys(bytes(range(32)))


@define
class Clock:
    """Adds up what each stage took: wall and CPU seconds of this thread."""

    wall_s: dict[str, float] = field(factory=dict)
    cpu_s: dict[str, float] = field(factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one step of a stage."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        yield
        self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.thread_time() - cpu_s
        self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall_s


def make_stages(geometry: Geometry) -> Stages:
    """Return the default behaviours as a client has them."""
    registry = Registry(BUILTIN)
    cipher = registry.get("dfs_ciphers", "aes-gcm")
    compressor = registry.get("dfs_compressors", "zstd")
    code = registry.get("dfs_codes", "reed-solomon")
    placement = registry.get("dfs_placements", "rendezvous")
    made = compressor.plugin.make(Options())
    return Stages(
        Recipe(cipher.qualified, compressor.qualified, code.qualified, placement.qualified, geometry),
        cipher.plugin.make(Options()),
        code.plugin.make(CodeOptions(geometry=geometry)),
        placement.plugin.make(PlacementOptions(rank=rank)),
        Packer(lambda: made, compressor.plugin.codec),
    )


def put_chunk(stages: Stages, slot: Slot, descriptor: int, offset: int, size: int, clock: Clock) -> None:
    """Do by hand what `make_stripe` does, stage by stage."""
    plain = slot.view("plain", size)
    with clock.stage("put: read"):
        os.preadv(descriptor, [plain], offset)
    with clock.stage("put: pack"):
        codec, packed = stages.packer.pack(Plain(plain))
    with clock.stage("put: name"):
        chunk_id = keyring.chunk_id(KEYS, codec, packed)
        key = keyring.chunk_key(KEYS, chunk_id, stages.cipher_name, stages.cipher.key_size)
    sealed_size = len(packed) + stages.cipher.overhead_size
    share_size = stages.code.share_size(sealed_size)
    needed, total = stages.recipe.geometry.needed, stages.recipe.geometry.total
    stripe = slot.view("stripe", needed * share_size)
    with clock.stage("put: seal"):
        stages.cipher.seal_into(key, CHUNK_CONTEXT, packed, stripe[:sealed_size])
        stripe[sealed_size:] = bytes(len(stripe) - sealed_size)
    parity = pieces(slot.view("parity", (total - needed) * share_size), share_size)
    with clock.stage("put: encode"):
        if parity:
            stages.code.encode_into(stripe, parity)
    with clock.stage("put: checksum"):
        for share in [*pieces(stripe, share_size), *parity]:
            xxh3_128_digest(share)


def get_chunk(stages: Stages, slot: Slot, stripe: Stripe, descriptor: int, offset: int, clock: Clock) -> None:
    """Do by hand what `open_stripe` does, with as many data shares lost as may be."""
    chunk, share_size = stripe.chunk, stripe.share_size
    needed, total = stages.recipe.geometry.needed, stages.recipe.geometry.total
    lost = range(min(needed, total - needed))
    buffer = slot.view("back", needed * share_size)
    places = pieces(buffer, share_size)
    for index, place in enumerate(places):  # as they come from the network
        place[:] = bytes(share_size) if index in lost else stripe.shares[index]
    kept = {index: share for index, share in enumerate(stripe.shares) if index not in lost}
    with clock.stage(f"get: decode, {len(lost)} lost"):
        if lost:
            stages.code.decode_into(kept, {index: places[index] for index in lost})
    plain = slot.view("plain", chunk.plain_size)
    packed = plain if chunk.codec == CODEC_PLAIN else slot.view("packed", chunk.packed_size)
    with clock.stage("get: open"):
        key = keyring.chunk_key(KEYS, chunk.chunk_id, stages.cipher_name, stages.cipher.key_size)
        sealed = buffer[: chunk.packed_size + stages.cipher.overhead_size]
        stages.cipher.open_into(key, CHUNK_CONTEXT, sealed, packed)
    with clock.stage("get: unpack"):
        if chunk.codec != CODEC_PLAIN:
            stages.packer.unpack_into(chunk.codec, packed, plain)
    with clock.stage("get: write"):
        os.pwritev(descriptor, [plain], offset)


def one_pass(stages: Stages, slot: Slot, source: Path, target: Path) -> Clock:
    """Take a whole file through all stages and back, and compare."""
    clock, size = Clock(), source.stat().st_size
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as back:
        for offset in range(0, size, CHUNK_SIZE):
            count = min(CHUNK_SIZE, size - offset)
            put_chunk(stages, slot, file.fileno(), offset, count, clock)
            plain = slot.view("plain", count)
            with clock.stage("put: all but read, as dfs does it"):
                stripe = make_stripe(stages, KEYS, slot, Plain(plain))
            right = xxh3_128_digest(plain)
            get_chunk(stages, slot, stripe, back.fileno(), offset, clock)
            _whole_get(stages, slot, stripe.chunk, stripe, clock)
            if xxh3_128_digest(slot.view("again", count)) != right:
                raise BenchError("a chunk did not come back as it was")
    if source.read_bytes() != target.read_bytes():
        raise BenchError("the bytes that came back are others")
    target.unlink()
    return clock


def _whole_get(stages: Stages, slot: Slot, chunk: Chunk, stripe: Stripe, clock: Clock) -> None:
    """Open a stripe whose data shares are all there."""
    shares = {index: stripe.shares[index] for index in range(stages.recipe.geometry.needed)}
    target = slot.view("again", chunk.plain_size)
    with clock.stage("get: all but write, as dfs does it"):
        open_stripe(stages, KEYS, slot, chunk, shares, target)


def peak_allocated(work: Callable[[], object]) -> int:
    """Return how many bytes more than before a call holds at its worst moment."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def allocations(stages: Stages, slot: Slot, source: Path) -> dict[str, int]:
    """Return what one chunk allocates in warm buffers, there and back."""
    with source.open("rb", buffering=0) as file:
        plain = slot.view("plain", min(CHUNK_SIZE, source.stat().st_size))
        os.preadv(file.fileno(), [plain], 0)
    stripe = make_stripe(stages, KEYS, slot, Plain(plain))
    target = slot.view("again", len(plain))
    shares = dict(enumerate(stripe.shares[: stages.recipe.geometry.needed]))
    return {
        "put": peak_allocated(lambda: make_stripe(stages, KEYS, slot, Plain(plain))),
        "get": peak_allocated(lambda: open_stripe(stages, KEYS, slot, stripe.chunk, shares, target)),
    }


def _run() -> None:
    options = make_parser(__doc__, limit_s=1800).parse_args()
    wanted, repeat = sizes(quick=options.quick), repeats(options, 2, 5)
    size = wanted.sources // 2
    stages, slot = make_stages(Geometry(*options.geometry)), Slot()
    with workshop(options) as folder:
        report = Report("stages", options, folder)
        make_random(folder / "W1", size)
        make_sources(folder / "W2", size)
        for work in ("W1", "W2"):
            source = folder / work
            clocks = [one_pass(stages, slot, source, folder / "back") for _ in range(repeat + 1)][1:]
            peaks = allocations(stages, slot, source)
            for name in clocks[0].wall_s:
                samples = [Sample(clock.wall_s[name], clock.cpu_s[name], 0.0) for clock in clocks]
                whole = peaks[name[:3]] if name.endswith("as dfs does it") else None
                report.add(work, name, samples, size=size, peak_allocated_bytes=whole)
        report.end()


if __name__ == "__main__":
    main(_run)
