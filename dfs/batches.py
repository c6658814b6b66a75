"""Many files to store or fetch, in batches and in an order that suits nodes.

What one request carries comes in the order given. More goes folder by folder, as they come, and in each of
them in the order in which nodes keep its names, which are keyed: so the rows of a batch lie side by side in a
node's tables, in few of their pages.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dfs.core import limits
from dfs.core.keys import register_key
from dfs.core.runs import runs

if TYPE_CHECKING:
    from dfs.core.keys import VaultKeys
    from dfs.core.types import DirectoryId

PUT_COUNT: Final = 400  # files stored by one operation
PUT_SIZE: Final = 64 * limits.MIB  # their bytes, unless it is one file
GET_COUNT: Final = 2000  # files fetched by one operation


def put_batches(keys: "VaultKeys", paths: Sequence[str], sizes: Sequence[int | None]) -> Iterator[list[int]]:
    """Yield the indexes of files to store, given by canonical path and size (None: unknown)."""
    return runs(_kept_order(keys, paths), lambda index: sizes[index] or 0, PUT_SIZE, PUT_COUNT)


def get_batches(keys: "VaultKeys", paths: Sequence[str]) -> Iterator[Sequence[int]]:
    """Yield the indexes of files to fetch, given by canonical path."""
    order = _kept_order(keys, paths)
    for first in range(0, len(order), GET_COUNT):
        yield order[first : first + GET_COUNT]


def _kept_order(keys: "VaultKeys", paths: Sequence[str]) -> Sequence[int]:
    if len(paths) <= limits.REGISTER_COUNT:
        return range(len(paths))
    places = [register_key(keys, path) for path in paths]
    ranks: dict[DirectoryId, int] = {}
    for place in places:
        ranks.setdefault(place.directory, len(ranks))
    return sorted(range(len(paths)), key=lambda index: (ranks[places[index].directory], places[index].name))
