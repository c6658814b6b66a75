"""The pool of bulk buffers: bounded, shared, in order."""

from collections.abc import Callable

from hypothesis import given, strategies as st

from dfs.core import buffers, limits
from dfs.core.buffers import BufferPool


def fits(_buffer: memoryview) -> None:
    raise AssertionError("this one had not to wait")


def test_a_users_share_leaves_room_for_others() -> None:
    pool = BufferPool(limits.MIB, 512 * limits.KIB)
    served: list[str] = []
    held = pool.take(400 * limits.KIB, "tom", fits)
    assert held is not None
    assert pool.take(200 * limits.KIB, "tom", lambda _: served.append("large")) is None
    assert pool.take(64 * limits.KIB, "tom", lambda _: served.append("small")) is None, "it overtook"
    assert pool.take(500 * limits.KIB, "ines", fits) is not None
    pool.give(held, "tom")
    assert served == ["large", "small"]


def test_buffers_are_used_again() -> None:
    pool = BufferPool(limits.MIB)
    first = pool.take(100_000, "", fits)
    assert first is not None
    assert len(first) == 100_000
    whole = first.obj
    pool.give(first, "")
    second = pool.take(99_000, "", fits)
    assert second is not None
    assert second.obj is whole
    assert len(second) == 99_000


def test_free_buffers_of_another_size_make_room() -> None:
    pool = BufferPool(limits.MIB)
    for size in (limits.MIB, 64 * limits.KIB, limits.MIB):
        buffer = pool.take(size, "", fits)
        assert buffer is not None
        pool.give(buffer, "")
    assert pool._size <= limits.MIB


@given(st.lists(st.integers(1, limits.MIB), max_size=30))
def test_the_pool_never_grows_over_its_size_and_serves_in_order(sizes: list[int]) -> None:
    pool = BufferPool(2 * limits.MIB)
    served: list[tuple[int, memoryview]] = []

    def taker(index: int) -> Callable[[memoryview], None]:
        return lambda buffer: served.append((index, buffer))

    for index, size in enumerate(sizes):
        buffer = pool.take(size, "", taker(index))
        if buffer is not None:
            served.append((index, buffer))
        assert pool._size <= 2 * limits.MIB
    given = 0
    while given < len(served):
        index, buffer = served[given]
        assert len(buffer) == sizes[index]
        given += 1
        pool.give(buffer, "")
    assert [index for index, _ in served] == list(range(len(sizes)))


def test_rounding_wastes_an_eighth_at_most() -> None:
    for size in (1, 65536, 65537, 2 * limits.MIB + 8, limits.SHARE_SIZE_MAX, limits.BULK_SIZE_MAX):
        rounded = buffers.rounded(size)
        assert size <= rounded <= size + max(size // 8, buffers.BUFFER_SIZE_MIN)
