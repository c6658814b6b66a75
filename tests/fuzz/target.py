"""What a fuzz target is: a parser that takes any bytes, and answers with a value or an error of dfs."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from attrs import field, frozen

from dfs.core import limits
from dfs.core.errors import DfsError, InvariantError, LocalProtocolError

CORPUS: Final = Path(__file__).parent / "corpus"
INPUT_SIZE_MAX: Final = 4 * limits.KIB  # of what a fuzzer makes up
MEMORY_MAX: Final = 64 * limits.MIB  # traced while one input is parsed
OWN_BUGS: Final = (InvariantError, LocalProtocolError)  # errors of dfs that no input may raise


@frozen
class Target:
    """``parse``: raises DfsError or AssertionError (what it read does not come out again as it was).

    ``seeds``: some inputs that it takes, and some that it must refuse.
    """

    name: str
    parse: Callable[[bytes], object] = field(repr=False)
    seeds: Callable[[], Iterable[bytes]] = field(repr=False)

    def run(self, raw: bytes) -> bool:
        """Parse, and return whether the bytes were taken; any other error than those of dfs goes on."""
        refused: type[DfsError] | None = None  # the error itself would keep this frame and its input
        try:
            self.parse(raw)
        except DfsError as error:
            refused = type(error)
        assert refused is not DfsError, "a parser says what is wrong"
        assert refused not in OWN_BUGS, "no input may look like a bug of ours"
        return refused is None

    def corpus(self) -> list[bytes]:
        """Return the inputs that are kept of it, by name."""
        folder = CORPUS / self.name
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
