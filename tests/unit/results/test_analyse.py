"""Measurement to numbers: every one of them by hand from the milliseconds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.config import ProtocolConfig
from harness.measure.cell import CellResult, Slice
from harness.measure.protocol import Measurement
from harness.measure.samples import Samples
from harness.measure.stopping import Standing, standing
from harness.results.analyse import analyse
from harness.stats import estimate
from harness.stats.intervals import mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.roles import ROLES

SETTINGS = ProtocolConfig()


def measurement(blocks, roles=ROLES, batch_size=4, primary="wall", coursework=None, restarts=None, spread=None):
    """Return a measurement of blocks: {boundary: {role: milliseconds of the iterations}} each."""
    samples = Samples(roles, batch_size, spread)
    restarts = restarts or [0] * len(blocks)
    for number, (block, restart) in enumerate(zip(blocks, restarts, strict=True)):
        for order, role in enumerate(roles):
            samples.add(role, restart, number, order, Slice({name: cells[role] for name, cells in block.items()}))
        samples.close_block(restart)
    standing = Standing("factor", 1.0, 0.01, "inconclusive", len(blocks))
    cells = {
        role: CellResult(loaded=None, fidelity=None, coursework_ms=tuple(ms)) for role, ms in (coursework or {}).items()
    }
    return Measurement(samples, primary, standing, True, 12.5, len(set(restarts)), cells=cells)


def wall(baseline, arch, hw, combined) -> dict:
    return {"wall": {"baseline": baseline, "arch": arch, "hw": hw, "combined": combined}}


# speeds of 100, 200, 400 and 1200 images/s in one block, and half of that in the other one
FAST = wall([40.0], [20.0], [10.0], [10.0 / 3])
SLOW = wall([80.0], [40.0], [20.0], [20.0 / 3])


def test_factor_and_gains_are_those_of_the_geometric_means():
    metrics = analyse(measurement([FAST, SLOW] * 3), SETTINGS).metrics
    root = math.sqrt(2)
    for prefix, speed in (("baseline/", 100), ("arch/", 200), ("hw/", 400), ("", 1200)):
        assert metrics[f"{prefix}throughput/wall"] == pytest.approx(speed / root)
    gains = {"arch": 2.0, "hw": 4.0, "combined": 12.0, "expected": 8.0}
    for name, value in gains.items():
        assert metrics[f"gain/{name}"] == pytest.approx(value)
        assert metrics[f"gain/wall_{name}"] == pytest.approx(value)
    assert metrics["interaction/factor"] == pytest.approx(1.5)
    assert metrics["interaction/wall_factor"] == pytest.approx(1.5)


def test_gains_have_the_intervals_of_their_blocks():
    generator = np.random.default_rng(4)
    blocks = [wall(*([ms * math.exp(generator.normal(0, 0.02))] for ms in (40, 20, 10, 5))) for _ in range(12)]
    found = analyse(measurement(blocks), SETTINGS).metrics
    logs = np.log([[block["wall"][role][0] for role in ROLES] for block in blocks])
    series = logs[:, 0] - logs[:, ROLES.index("arch")]
    half = float(mean_interval(series).half_width(SETTINGS.level))
    assert found["gain/arch_low"] == found["gain/wall_arch_low"] == pytest.approx(found["gain/arch"] * math.exp(-half))
    assert found["gain/arch_high"] == pytest.approx(found["gain/arch"] * math.exp(half))
    assert found["gain/hw_low"] < 4.0 < found["gain/hw_high"] and "gain/expected_low" not in found
    assert "gain/arch_low" not in analyse(measurement(blocks[:4]), SETTINGS).metrics


def test_a_block_weighs_its_iterations_by_their_time():
    """One of 10 ms and one of 30 ms make 4 * 2 / 0.04 = 200 images/s, not the mean of 400 and 133."""
    block = wall([10.0, 30.0], [20.0], [20.0], [20.0])
    metrics = analyse(measurement([block] * 5), SETTINGS).metrics
    assert metrics["baseline/throughput/wall"] == pytest.approx(200.0)
    assert metrics["gain/arch"] == pytest.approx(1.0)


def test_interval_and_verdict_are_those_of_the_estimator():
    generator = np.random.default_rng(4)
    blocks = [wall(*([ms * math.exp(generator.normal(0, 0.002))] for ms in (40, 20, 10, 5))) for _ in range(12)]
    found = analyse(measurement(blocks), SETTINGS)
    throughput = [[4 / (block["wall"][role][0] / 1e3) for role in ROLES] for block in blocks]
    right = estimate(throughput, margin=0.05, level=0.95)
    for name in ("factor", "low", "high"):
        assert found.metrics[f"interaction/{name}"] == pytest.approx(getattr(right, name), rel=1e-12)
    assert found.metrics["interaction/low"] < 1.0 < found.metrics["interaction/high"]
    assert (found.verdict, found.primary) == (str(right.verdict), "wall") == ("independent", "wall")


def test_builds_that_differ_widen_the_interval():
    """Build 0 has a factor of 1.5, build 1 of 2: within each of them, and of its restarts, all blocks are the same."""
    generator = np.random.default_rng(4)
    samples = Samples(ROLES, batch_size=4)
    for number in range(24):
        build, restart = number // 6 % 2, number // 6
        for order, (role, ms) in enumerate(zip(ROLES, (40.0, 20.0, 10.0, 10 / (3 + build)), strict=True)):
            samples.add(role, restart, number, order, Slice({"wall": [ms * math.exp(generator.normal(0, 1e-4))]}))
        samples.close_block(restart, build=build)
    now = standing(samples, "wall", ProtocolConfig(half_width=0.03))
    found = analyse(Measurement(samples, "wall", now, False, 1.0, 4), SETTINGS)
    throughput = samples.throughput("wall")
    right = estimate(throughput, samples.groups, builds=samples.builds)
    width = found.interactions["wall"].stopping_half_width  # of the decision level and these builds
    assert replace(found.interactions["wall"], stopping_half_width=right.stopping_half_width) == right
    assert 0 < width < right.half_width and (right.builds, right.restarts) == (2, 4)
    assert now.half_width == right.half_width > 1.5 * estimate(throughput, samples.groups).half_width
    assert found.metrics["measure/builds"] == 2
    assert found.metrics["interaction/p_value"] == right.p_value
    assert analyse(measurement([FAST] * 5), SETTINGS).metrics["measure/builds"] == 1


def test_of_one_build_the_intervals_hold_what_others_would_give():
    """hw and combined are built: a gain of hw moves with one, the factor with both, a gain of arch with none."""
    known = KnownSpread(0.0138, 8)
    samples = Samples(ROLES, 4, build_spreads={"hw": known, "combined": known})
    generator = np.random.default_rng(4)
    for number in range(20):
        for order, (role, ms) in enumerate(zip(ROLES, (40.0, 20.0, 10.0, 4.8), strict=True)):
            samples.add(role, 0, number, order, Slice({"device": [ms * math.exp(generator.normal(0, 1e-4))]}))
        samples.close_block(0)
    settings = ProtocolConfig(half_width=0.01, builds=1)
    now = standing(samples, "device", settings)
    found = analyse(Measurement(samples, "device", now, True, 1.0, 1), settings)
    one, t = math.log(found.metrics["gain/hw_high"] / found.metrics["gain/hw"]), 2.3646  # of seven degrees of freedom
    assert one == pytest.approx(t * 0.0138, rel=0.01)
    assert found.interactions["device"].half_width == pytest.approx(t * 0.0138 * math.sqrt(2), rel=0.01)
    assert math.log(found.metrics["gain/arch_high"] / found.metrics["gain/arch"]) < 1e-3
    assert found.interactions["device"].reason.startswith("of one build: other builds move the factor by 2.0% (sd)")
    assert now.enough(settings)  # the factor of 1.04 is for several builds to decide, and for no more blocks


def test_of_unequal_restarts_gains_and_throughputs_are_those_that_the_factor_is_of():
    """A restart of two blocks counts as much as one of six, whose factor is another one."""
    ones = wall([40.0], [20.0], [10.0], [5.0])
    found = analyse(measurement([FAST] * 6 + [ones] * 2, restarts=[0] * 6 + [1] * 2), SETTINGS).metrics
    assert found["throughput/wall"] == pytest.approx(math.sqrt(1200 * 800))
    assert found["gain/combined"] / found["gain/expected"] == pytest.approx(found["interaction/factor"])
    assert found["interaction/factor"] == pytest.approx(math.sqrt(1.5))


@pytest.mark.parametrize("restarts", [[0] * 12, [0] * 6 + [1] * 6])
def test_what_one_set_of_processes_can_not_show_is_added_to_factor_and_gains(restarts):
    generator = np.random.default_rng(4)
    blocks = [wall(*([ms * math.exp(generator.normal(0, 0.002))] for ms in (40, 20, 10, 5))) for _ in range(12)]
    spread = KnownSpread(0.02, 10)
    alone, found = (
        analyse(measurement(blocks, restarts=restarts, spread=known), SETTINGS).metrics for known in (None, spread)
    )
    added = spread.half_width(0.95) if set(restarts) == {0} else 0.0
    for name, more in (("interaction/", added), ("gain/arch_", added / math.sqrt(2))):
        of_blocks, reported = (
            math.log(metrics[f"{name}high"] / metrics[f"{name}low"]) / 2 for metrics in (alone, found)
        )
        assert reported == pytest.approx(math.hypot(of_blocks, more))
    for name in ("interaction/factor", "measure/half_width"):
        assert found[name] == alone[name]


def test_margin_and_level_of_the_protocol_count():
    generator = np.random.default_rng(4)
    blocks = [wall(*([ms * math.exp(generator.normal(0, 0.002))] for ms in (40, 20, 10, 4.5))) for _ in range(12)]
    assert analyse(measurement(blocks), SETTINGS).verdict == "amplify"
    assert analyse(measurement(blocks), ProtocolConfig(margin=0.3)).verdict == "independent"
    narrow = analyse(measurement(blocks), ProtocolConfig(level=0.5)).metrics
    wide = analyse(measurement(blocks), ProtocolConfig(level=0.99)).metrics
    assert wide["interaction/high"] > narrow["interaction/high"] > narrow["interaction/low"] > wide["interaction/low"]


def test_the_primary_boundary_has_the_short_names_and_the_others_keep_theirs():
    device = {"baseline": [20.0], "arch": [10.0], "hw": [10.0], "combined": [10.0]}
    blocks = [{**FAST, "device": {**device, "combined": [10.0 + 1e-5 * noise]}} for noise in (0, 2, 1, -1, -2, 0)]
    found = analyse(measurement(blocks, primary="device"), SETTINGS)
    assert found.metrics["interaction/factor"] == found.metrics["interaction/device_factor"] == pytest.approx(0.5)
    assert found.metrics["interaction/wall_factor"] == pytest.approx(1.5)
    assert found.metrics["gain/combined"] == found.metrics["gain/device_combined"] == pytest.approx(2.0)
    assert found.metrics["throughput/device"] == pytest.approx(400.0)
    assert found.verdict == "conflict"


def test_two_cells_have_a_gain_and_no_factor_and_one_has_neither():
    pair = measurement([{"wall": {"baseline": [40.0], "hw": [10.0]}}] * 5, roles=("baseline", "hw"))
    found = analyse(pair, SETTINGS)
    assert found.metrics["gain/hw"] == pytest.approx(4.0)
    assert found.verdict is None
    assert not [name for name in found.metrics if name.startswith("interaction/") or name.endswith("expected")]
    alone = analyse(measurement([{"wall": {"baseline": [40.0]}}] * 5, roles=("baseline",)), SETTINGS)
    assert alone.metrics["baseline/throughput/wall"] == pytest.approx(100.0)
    assert not [name for name in alone.metrics if name.startswith(("interaction/", "gain/"))]


@pytest.mark.parametrize(
    ("count", "present"),
    [(5, set()), (63, {"p50"}), (64, {"p50", "p90"}), (129, {"p50", "p90"}), (130, {"p50", "p90", "p95"})],
)
def test_a_percentile_with_too_few_samples_is_absent(count, present):
    block = wall([40.0] * count, [20.0] * count, [10.0] * count, [float(ms) for ms in range(1, count + 1)])
    metrics = analyse(measurement([block]), SETTINGS).metrics
    found = {name.rpartition("/")[2] for name in metrics if name.startswith("latency_ms/p")}
    assert found == present
    assert metrics["latency_ms/mean"] == pytest.approx((count + 1) / 2)
    for name in present:  # of 1, 2, ... n milliseconds: the smallest with a share q at or below it
        assert metrics[f"latency_ms/{name}"] == math.ceil(round(int(name[1:]) / 100 * count, 9))
        assert metrics[f"baseline/latency_ms/{name}"] == 40.0


def test_percentiles_are_of_all_samples_not_of_blocks():
    blocks = [wall([1.0], [1.0], [1.0], [float(ms)]) for ms in range(1, 65)]
    metrics = analyse(measurement(blocks), SETTINGS).metrics
    assert metrics["latency_ms/p50"] == 32.0
    assert metrics["latency_ms/p90"] == 58.0


def test_the_usual_recipe_is_a_ratio_of_four_means():
    coursework = {"baseline": [40.0, 40.0], "arch": [20.0, 20.0], "hw": [10.0, 10.0], "combined": [4.0, 6.0]}
    found = analyse(measurement([FAST] * 5, coursework=coursework), SETTINGS)
    assert found.coursework["throughput"] == pytest.approx({"baseline": 100, "arch": 200, "hw": 400, "combined": 800})
    assert found.coursework["factor"] == pytest.approx(1.0)
    assert found.coursework["verdict"] == "independent"
    assert analyse(measurement([FAST] * 5), SETTINGS).coursework is None


def test_what_is_no_number_is_not_logged():
    """One block has no interval: its bounds are infinite, and stay out."""
    metrics = analyse(measurement([FAST]), SETTINGS).metrics
    assert metrics["interaction/factor"] == pytest.approx(1.5)
    assert all(math.isfinite(value) for value in metrics.values())
    assert (metrics["measure/blocks"], metrics["measure/restarts"], metrics["measure/seconds"]) == (1, 1, 12.5)
