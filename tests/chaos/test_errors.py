"""An error at every system call of a node: EIO, ENOSPC, EDQUOT, EINTR, too many open files, short writes,
failed syncs, once and for good. Nothing is acknowledged that is not there after a restart; what was said to
have failed never happens; a failed sync ends writing.
"""

import pytest

from tests.chaos.deeds import DEEDS
from tests.chaos.kit import Nursery, needs, tally
from tests.chaos.sweeps import Scene, error_sweep

WORK = sorted(set(DEEDS) - {"found", "repair"})
SHORT_STRIDE = 331


@needs("strace")
@pytest.mark.parametrize("deed", ["put", "collect"])
def test_an_error_now_and_then(nursery: Nursery, founded: Scene, deed: str) -> None:
    sweep = error_sweep(nursery, founded, deed, SHORT_STRIDE)
    tally(f"errors, {deed}, every {SHORT_STRIDE}th", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 1
    assert sweep.bad == []


@needs("strace")
@pytest.mark.chaos
@pytest.mark.parametrize("deed", WORK)
def test_an_error_at_every_call(nursery: Nursery, founded: Scene, deed: str) -> None:
    sweep = error_sweep(nursery, founded, deed)
    tally(f"errors, {deed}", points=sweep.points, bad=len(sweep.bad))
    assert sweep.points >= 200
    assert sweep.bad == []
