"""Rates: what is counted, and what follows from them."""

import pytest

from dfs import measuring
from dfs.core.limits import GIB
from dfs.core.registry import Registry
from dfs.core.settings import ClientConf
from dfs.measuring import Rate, measured, suggested_jobs
from dfs.plugins import BUILTIN


def test_work_is_counted_and_warmed_up() -> None:
    calls: list[int] = []
    rate = measured("x", 100, lambda: calls.append(1), 0.0)
    assert rate.size == 100 * (len(calls) - 1)
    assert len(calls) == 1 + measuring.ROUND_COUNT_MIN


def test_figures() -> None:
    rate = Rate("x", GIB, 2.0, 0.5)
    assert rate.mb_per_s == pytest.approx(GIB / 2e6)
    assert rate.cpu_s_per_gib == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("code", "geometry", "labels"),
    [
        ("reed-solomon", (3, 4), ["encode (reed-solomon, 3 of 4)", "decode (reed-solomon, 3 of 4), 1 lost"]),
        ("reed-solomon", (2, 2), ["encode (reed-solomon, 2 of 2)"]),
        ("replicate", (2, 3), ["encode (replicate, 1 of 3)", "decode (replicate, 1 of 3), 1 lost"]),
        ("split", (2, 4), ["encode (split, 4 of 4)"]),
    ],
)
def test_codes_are_measured_at_the_geometry_of_the_conf(
    code: str, geometry: tuple[int, int], labels: list[str]
) -> None:
    conf = ClientConf(code=code, geometry_needed=geometry[0], geometry_total=geometry[1])
    rates = measuring.stages(conf, Registry(BUILTIN), 0.0)
    assert [rate.what for rate in rates if rate.what.startswith(("encode", "decode"))] == labels


def test_jobs_grow_with_waiting_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "core_count", lambda: 2)
    work = Rate("seal", GIB, 1.0, 1.0)
    assert suggested_jobs([work]) == 2
    assert suggested_jobs([work, Rate("put to the cluster", GIB, 2.0, 0.0)]) == 4
    assert suggested_jobs([work, Rate("put to the cluster", GIB, 1000.0, 0.0)]) == 8
