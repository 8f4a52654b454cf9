"""When a quartet is measured well enough: a decided verdict and a narrow interval, both."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.config import ProtocolConfig
from harness.measure.cell import Slice
from harness.measure.samples import Samples
from harness.measure.stopping import HOST_BOUND, Standing, host_bound, host_shares, is_look, judged_on, standing
from harness.stats import estimate
from harness.stats.intervals import mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.roles import ROLES

SETTINGS = ProtocolConfig(half_width=0.03, margin=0.05)


def samples(means, blocks: int, noise: float = 0.002, groups=None, builds=None) -> Samples:
    """Return blocks of one iteration each, with these mean milliseconds and relative noise."""
    generator = np.random.default_rng(3)
    out = Samples(ROLES[: len(means)] if len(means) != 2 else ("baseline", "hw"), batch_size=1)
    for block in range(blocks):
        for order, role in enumerate(out.roles):
            ms = means[order] * math.exp(generator.normal(0, noise))
            out.add(role, 0, block, order, Slice({"wall": [ms]}))
        out.close_block(groups[block] if groups else 0, build=builds[block] if builds else 0)
    return out


def test_a_quartet_stands_on_its_factor():
    measured = samples((8.0, 4.0, 2.0, 0.5), blocks=20)
    now = standing(measured, "wall", SETTINGS)
    found = estimate(measured.throughput("wall"), measured.groups)
    assert (now.kind, now.blocks, now.verdict) == ("factor", 20, "amplify")
    assert now.value == pytest.approx(found.factor)
    assert now.value == pytest.approx(2.0, rel=0.01)
    assert now.half_width == pytest.approx(math.log(found.high / found.factor))
    assert now.converged(SETTINGS)


def test_a_pair_stands_on_its_gain_and_a_lone_cell_on_its_throughput():
    gain = standing(samples((8.0, 2.0), blocks=20), "wall", SETTINGS)
    assert (gain.kind, gain.verdict) == ("gain", None)
    assert gain.value == pytest.approx(4.0, rel=0.01)
    alone = standing(samples((8.0,), blocks=20), "wall", SETTINGS)
    assert (alone.kind, alone.verdict) == ("throughput", None)
    assert alone.value == pytest.approx(125.0, rel=0.01)
    assert gain.converged(SETTINGS)
    assert alone.converged(SETTINGS)


def test_a_wide_interval_goes_on_even_where_the_verdict_is_clear():
    now = standing(samples((8.0, 4.0, 2.0, 0.1), blocks=20, noise=0.05), "wall", SETTINGS)
    assert now.verdict == "amplify"
    assert now.half_width > SETTINGS.half_width
    assert not now.converged(SETTINGS)


@pytest.mark.parametrize(("means", "columns"), [((8.0, 4.0, 2.0, 0.5), None), ((8.0, 2.0), 2), ((8.0,), 1)])
def test_restarts_and_builds_are_replicates_of_their_own_at_the_protocols_level(means, columns):
    groups = [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    builds = [0] * 10 + [1] * 30  # builds count equally: another mean
    measured = samples(means, blocks=40, noise=0.02, groups=groups, builds=builds)
    settings = replace(SETTINGS, level=0.9)
    now = standing(measured, "wall", settings)
    throughput = measured.throughput("wall")
    if columns is None:
        found = estimate(throughput, groups, level=0.9, builds=builds)
        expected = found.half_width
        others = [estimate(throughput, *rest, level=0.9).half_width for rest in ((), (groups,))]
        others.append(estimate(throughput, groups, level=0.95, builds=builds).half_width)
    else:
        logs = np.log(throughput)
        series = logs[:, 0] if columns == 1 else logs[:, 1] - logs[:, 0]
        ids = [np.array(one) for one in (groups, builds)]
        expected = float(mean_interval(series, *ids).half_width(0.9))
        others = [float(mean_interval(series, *rest).half_width(0.9)) for rest in ((), ids[:1])]
    assert now.half_width == pytest.approx(expected)
    assert now.blocks == 40
    assert all(abs(other - expected) > 1e-6 for other in others)  # so that each of them could be noticed


def test_a_narrow_interval_across_the_margin_goes_on():
    now = Standing("factor", 1.05, 0.001, "inconclusive", blocks=50)
    assert now.converged(SETTINGS) and not now.enough(SETTINGS)
    assert Standing("factor", 1.05, 0.001, "independent", blocks=50).enough(SETTINGS)


@pytest.mark.parametrize(("combined", "over"), [(8.2, True), (5.0, False), (8.0, False)])
def test_of_the_first_of_three_builds_measuring_stops_where_more_blocks_decide_nothing(combined, over):
    """Factors of 1.025, 0.625 and 1: near the margin three builds can't tell, however well each is known."""
    known = KnownSpread(0.0138, 8)
    samples = Samples(ROLES, 1, build_spreads={"hw": known, "combined": known})
    noise = np.random.default_rng(5)
    for block in range(40):
        for order, (role, speed) in enumerate(zip(ROLES, (1.0, 2.0, 4.0, combined), strict=True)):
            samples.add(role, 0, block, order, Slice({"device": [1e3 / speed * (1 + noise.normal(0, 1e-3))]}))
        samples.close_block(0)
    now = standing(samples, "device", replace(SETTINGS, half_width=0.01), builds=3)
    assert now.enough(replace(SETTINGS, half_width=0.01))
    assert now.only_others_decide is over


@pytest.mark.parametrize(
    ("combined", "restarts", "verdict", "enough"),
    [(0.5, 1, "amplify", True), (0.98, 1, "inconclusive", True), (0.98, 8, "independent", True)],
)
def test_of_one_restart_measuring_stops_where_only_others_could_decide(combined, restarts, verdict, enough):
    measured = samples((8.0, 4.0, 2.0, combined), blocks=40)
    measured.restart_spread = KnownSpread(0.022, 10)
    now = standing(measured, "wall", replace(SETTINGS, restarts=restarts))
    assert (now.verdict, now.enough(SETTINGS)) == (verdict, enough)
    assert now.half_width == standing(samples((8.0, 4.0, 2.0, combined), blocks=40), "wall", SETTINGS).half_width
    wide = standing(samples((8.0, 4.0, 2.0, combined), blocks=40, noise=0.2), "wall", SETTINGS)
    assert not replace(wide, only_others_decide=True).enough(SETTINGS)  # the interval is still to become narrow
    judged = judged_on(measured, "wall", SETTINGS)
    assert str(judged.verdict) == ("amplify" if combined == 0.5 else "inconclusive")  # of the one that was measured


def test_there_are_few_looks():
    assert [n for n in range(1, 120) if is_look(n, 10)] == [10, 14, 20, 28, 40, 57, 80, 113]
    assert [n for n in range(1, 12) if is_look(n, 1)] == [1, 2, 3, 4, 6, 8, 11]


def test_deciding_takes_more_than_the_reported_interval():
    measured = samples((8.0, 4.0, 2.0, 1.0), blocks=40, noise=0.02)
    throughput = measured.throughput("wall")
    widths = [estimate(throughput, level=level).half_width for level in (0.95, 0.99)]
    shift = np.log1p(SETTINGS.margin) + np.mean(widths) - np.log(estimate(throughput).factor)
    near = samples((8.0, 4.0, 2.0, math.exp(-shift)), blocks=40, noise=0.02)
    assert estimate(near.throughput("wall")).verdict == "amplify"
    assert standing(near, "wall", SETTINGS).verdict == "inconclusive"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_so_few_blocks_never_end_a_quartet(count):
    now = standing(samples((8.0, 4.0, 2.0, 0.5), blocks=count, noise=1e-9), "wall", SETTINGS)
    assert now.verdict == "inconclusive"
    assert not now.enough(SETTINGS)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_one_block_has_no_interval(width):
    now = standing(samples((8.0, 4.0, 2.0, 0.5)[:width], blocks=1), "wall", SETTINGS)
    assert not math.isfinite(now.half_width)
    assert not now.converged(SETTINGS)


def test_more_blocks_narrow_the_interval():
    widths = [standing(samples((8.0, 4.0, 2.0, 1.0), n, noise=0.02), "wall", SETTINGS).half_width for n in (10, 160)]
    assert widths[1] < widths[0] / 2


def on_a_gpu(*cells: tuple[list[float], list[float]]) -> Samples:
    """Return one block: of each cell its milliseconds on the device and on the wall."""
    out = Samples(ROLES[: len(cells)], batch_size=1)
    for order, (device, wall) in enumerate(cells):
        out.add(out.roles[order], 0, 0, order, Slice({"device": device, "wall": wall}))
    out.close_block(0)
    return out


def test_a_cells_host_share_is_what_its_wall_has_beyond_the_device_by_the_medians():
    measured = on_a_gpu(([8.0, 8.0, 8.0], [10.0, 10.0, 500.0]), ([9.0], [9.0]))  # one hiccup is not the host's share
    assert host_shares(measured) == {"baseline": pytest.approx(0.2), "arch": 0.0}
    assert host_shares(samples((8.0,), blocks=1)) == {}  # a CPU is its own host


def test_one_cell_that_waits_for_the_host_makes_the_quartet_host_bound():
    steady = ([10.0], [10.0])
    assert not host_bound(on_a_gpu(steady, ([10.0 * (1 - HOST_BOUND) + 0.1], [10.0])))
    assert host_bound(on_a_gpu(steady, ([10.0 * (1 - HOST_BOUND) - 0.1], [10.0])))


def test_a_cell_whose_launches_take_longer_than_its_work_is_host_bound_without_a_device_boundary():
    measured = samples((8.0,), blocks=1)
    assert not host_bound(measured)
    measured.launch_bound = True
    assert host_bound(measured)


def test_a_verdict_on_the_wall_of_a_host_bound_quartet_waits_for_restarts_and_one_on_the_device_does_not():
    measured = samples((8.0, 4.0, 2.0, 0.5), blocks=20)
    assert standing(measured, "wall", SETTINGS).verdict == "amplify"
    measured.launch_bound = True
    assert standing(measured, "wall", SETTINGS).verdict == "inconclusive"
    both = Samples(ROLES, batch_size=1)
    for block in range(20):
        for order, (role, ms) in enumerate(zip(ROLES, (8.0, 4.0, 2.0, 0.5), strict=True)):
            timed = ms * (1 + 0.001 * ((block + order) % 3))
            both.add(role, 0, block, order, Slice({"device": [timed], "wall": [2 * timed]}))
        both.close_block(0)
    assert host_bound(both)
    assert [standing(both, name, SETTINGS).verdict for name in ("device", "wall")] == ["amplify", "inconclusive"]
