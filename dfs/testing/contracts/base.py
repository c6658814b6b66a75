"""What all contracts share: the declaration, buffers with guards round them, threads, and memory in use."""

import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Generic, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from dfs.core.api import (
    NAME_PATTERN,
    NAME_SIZE_MAX,
    SUMMARY_SIZE_MAX,
    Buffer,
    ConfigError,
    FormatPlugin,
    Plugin,
    Settings,
)

P = TypeVar("P", bound=Plugin)
T = TypeVar("T")

KIB: Final = 1024
MIB: Final = 1024 * 1024
GUARD: Final = 0xA5  # what lies round a target and must still lie there afterwards
GUARD_SIZE: Final = 64
THREAD_COUNT: Final = 8
NO_SUCH_OPTION: Final = "colour-of-the-bicycle-shed"
TEXT: Final = b"".join(
    b"line %d of a text that repeats itself\n" % number for number in range(9000)
)  # 370 kB
NOISE: Final = random.Random(7).randbytes(MIB)  # noqa: S311 - the same for everybody, always

# No deadline: whether a machine is slow says nothing of a plugin. Several classes share one property.
property_test: Final = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class Guarded:
    """A target of ``size`` bytes at an odd offset, with guards round it."""

    def __init__(self, size: int, offset: int = 3) -> None:
        self._room: Final = bytearray((GUARD,)) * (offset + size + GUARD_SIZE)
        self._offset: Final = offset
        self._size: Final = size
        self.target: Final = memoryview(self._room)[offset : offset + size]

    def intact(self) -> bool:
        """Whether nothing was written beside the target."""
        outside = self._room[: self._offset] + self._room[self._offset + self._size :]
        return outside.count(GUARD) == len(outside)

    @property
    def content(self) -> bytes:
        """What is in the target."""
        assert self.intact(), "bytes outside the target were written"
        return bytes(self.target)


class Source:
    """Bytes a plugin may only read: a read-only slice at any offset, of a buffer that must be let go of."""

    def __init__(self, content: Buffer, offset: int = 1) -> None:
        self._content: Final = bytes(content)
        self._room: Final = bytearray(b"." * offset + self._content)
        self.view: Final = memoryview(self._room)[offset:].toreadonly()

    def free(self) -> None:
        """Check that the bytes are what they were and that nobody holds them; then they are overwritten."""
        unchanged = self.view == self._content  # outside the assertion: see check_bytes
        assert unchanged, "a source was changed"
        self.view.release()
        try:
            self._room.append(0)
        except BufferError:
            pytest.fail("a source is still held after the call returned")
        self._room[:] = bytes(len(self._room))


def check_bytes(found: Buffer, wanted: Buffer) -> None:
    """Fail, telling where they differ, when these are not the same bytes.

    For what may be large: pytest explains ``==`` with a diff of both sides, and when it knows that it runs in
    continuous integration it makes the whole of it, which takes minutes for a few 100 KiB.
    """
    if found == wanted:
        return
    found, wanted = bytes(found), bytes(wanted)
    pairs = zip(found, wanted, strict=False)
    same_size = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
    place = (
        "one goes on where the other ends" if same_size is None else f"the first other one is at {same_size}"
    )
    pytest.fail(f"{len(found)} bytes instead of {len(wanted)}: {place}")


@contextmanager
def memory_bound(size_max: int) -> Iterator[None]:
    """Fail when Python objects made inside need more than ``size_max`` bytes at any one time."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        peak_size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_size <= size_max, (
        f"{peak_size} bytes were allocated on the way, at most {size_max} are allowed"
    )


def in_threads(work: Callable[[int], T]) -> list[T]:
    """Run ``work(0)`` to ``work(7)`` at once and return what they return."""
    with ThreadPoolExecutor(THREAD_COUNT) as threads:
        return list(threads.map(work, range(THREAD_COUNT)))


class Contract(Generic[P]):
    """Common to all kinds. ``plugin``: what the hook returns. ``values``: the options it is made with.

    What a class derived from a contract sets is declared as Any: a type checker would refuse the narrower
    type that a plain assignment has there.
    """

    plugin: ClassVar[Any]
    values: ClassVar[Any] = {}
    kind: ClassVar[Any] = Plugin

    def made(self, values: Settings) -> object:
        """Make the behaviour with these options."""
        raise NotImplementedError

    def test_the_declaration_is_complete(self) -> None:
        """Name and summary are what `dfs plugins` and confs can show; the format version fits a manifest."""
        assert isinstance(self.plugin, self.kind)
        assert NAME_PATTERN.fullmatch(self.plugin.name)
        assert len(self.plugin.name) <= NAME_SIZE_MAX
        assert 1 <= len(self.plugin.summary.strip()) <= SUMMARY_SIZE_MAX
        if isinstance(self.plugin, FormatPlugin):
            assert 1 <= self.plugin.format_version <= 255


class OptionedContract(Contract[P]):
    """Common to all kinds that have a section in the conf."""

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        """A misspelt option in a conf must not be passed over: ConfigError, and it names the option."""
        with pytest.raises(ConfigError) as caught:
            self.made({**self.values, NO_SUCH_OPTION: "1"})
        assert NO_SUCH_OPTION in caught.value.what, "the error does not name the option"
