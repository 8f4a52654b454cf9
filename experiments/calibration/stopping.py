"""Stopping as the protocol does: few looks, narrow first, then 99% to decide; what it is worth near the margin.

Simulated quartets stop by the product's own rule (`harness.measure.stopping`): at a look the interval must be narrow
enough and the one at the decision level must decide; in a run that is flagged as unstationary, also if it is widened by
what the change could move. At the last look the run ends. Shares are of all runs, in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from bounds import Bound
from numpy.typing import NDArray
from simulate import AR6, AR9, DRIFT, FLICKER, MASKED, STEP, WHITE, Array

from cases import CHUNK, LEVEL, MARGIN, classify
from harness.measure.stopping import is_look
from harness.stats.interaction import log_interaction
from harness.stats.intervals import mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.sequential import cautious_half_width, stopping_half_width
from harness.stats.stationarity import could_move, halves, remembers
from harness.stats.verdict import DECISION_LEVEL

FACTORS = (0.94, 0.949, 0.951, 1.0, 1.049, 1.051, 1.06)
SCALES = ((0.1, 0.03), (0.02, 0.01))  # sd(L) and the half-width to reach: on a CPU's wall, on a device
MOST, FIRST = 400, 10  # ProtocolConfig.max_blocks and min_blocks
UNEQUAL = ((60, 5, 5), (188, 10, 10, 10, 19, 20, 18, 10))  # blocks of restarts, as the protocol made them
IDEAL, IDEAL_BOUND = ", ideal test", 3.1  # of |z|; flags 3 to 8% of white runs
KNOWN_BUILDS = 8  # of experiments/rebuilds
ENOUGH_TO_JUDGE = 50  # converged runs; a share of fewer is noise


@dataclass(frozen=True)
class Stopped:
    """What became of the runs of one kind of noise at one true factor."""

    noise: str
    sd: float
    factor: float
    runs: int
    false: float  # decided, and contradicted by the true factor
    decided: float
    converged: float  # became narrow, and not flagged
    flagged: float  # as unstationary
    coverage: float  # of the runs that converged; NaN for too few
    mean_blocks: float


@dataclass(frozen=True)
class Look:
    """All runs after so many blocks."""

    blocks: int
    error: Array  # of ln(factor)
    half_width: Array  # as it is reported
    stopping: Array  # the one that must be narrow
    deciding: Array  # half-width at the decision level; of a flagged run, with what the change could move
    flagged: NDArray[np.bool_]


def stopping(runs: int, generator: Callable[[str, float], np.random.Generator]) -> list[Stopped]:
    """Return one row for each noise, scale and factor."""
    rows = []
    for sd, target in SCALES:
        for noise in (WHITE, AR6, AR9, MASKED, DRIFT, FLICKER, STEP):
            series = log_interaction(noise.simulate(generator(noise.name, sd), runs, MOST, sd))
            looks = [
                _look(series[:, :n], np.zeros(n, dtype=np.intp)) for n in range(FIRST, MOST + 1) if is_look(n, FIRST)
            ]
            rows += [_row(noise.name, sd, factor, looks, target) for factor in FACTORS]
            if noise in (WHITE, STEP):
                ideal = [_as_an_ideal_test_flags(look, series, sd) for look in looks]
                rows += [_row(noise.name + IDEAL, sd, factor, ideal, target) for factor in FACTORS]
        for name, sizes in (
            ("restarts 60+5+5", (60, 5, 5)),
            ("restarts 188+10+...", (188, 10, 10, 10, 19, 20, 18, 10)),
        ):
            rows += _unequal(name, sizes, sd, target, runs, generator(name, sd))
        rows += _builds(sd, target, runs, generator("builds", sd))
    return rows


def _look(
    series: Array,
    restarts: NDArray[np.intp],
    builds: NDArray[np.intp] | None = None,
    known_sd: Array | None = None,
) -> Look:
    """Return all runs, [runs, blocks]; `known_sd`: what each of them knows of other builds, from KNOWN_BUILDS."""
    parts = []
    for start in range(0, len(series), CHUNK):
        part = series[start : start + CHUNK]
        known: Any = None if known_sd is None else KnownSpread(known_sd[start : start + CHUNK], KNOWN_BUILDS)
        interval, compared = mean_interval(part, restarts, builds, known), halves(part, restarts)
        flagged = remembers(interval) | (compared.differ() if compared is not None else False)
        stop = stopping_half_width(interval, part.shape[1], LEVEL, DECISION_LEVEL)
        decide = cautious_half_width(interval, part.shape[1], DECISION_LEVEL)
        decide = decide + could_move(interval, compared, DECISION_LEVEL)
        parts.append((interval.mean, interval.half_width(LEVEL), stop, decide, flagged))
    return Look(series.shape[1], *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _as_an_ideal_test_flags(look: Look, series: Array, sd: float) -> Look:
    """Return a look whose runs are also flagged by a test that no product can have: it knows the noise.

    That is the largest difference of means before and after any block, in units of its known sd: the likelihood ratio
    test of one step at an unknown place in white noise. What false verdicts it leaves, no test for steps removes.
    """
    sums, before = np.cumsum(series[:, : look.blocks], axis=1), np.arange(1, look.blocks)
    after = look.blocks - before
    difference = sums[:, :-1] / before - (sums[:, -1:] - sums[:, :-1]) / after
    z = np.abs(difference) / (sd * np.sqrt(1 / before + 1 / after))
    found = z.max(axis=1) > IDEAL_BOUND
    return replace(look, flagged=look.flagged | found, deciding=np.where(found, np.inf, look.deciding))


def _row(noise: str, sd: float, factor: float, looks: Sequence[Look], target: float) -> Stopped:
    runs = len(looks[0].error)
    truth = "amplify" if factor > 1 + MARGIN else "conflict" if factor < 1 - MARGIN else "independent"
    verdicts, used = np.full(runs, "inconclusive"), np.zeros(runs)
    covered, narrow, flagged, running = (np.zeros(runs, bool) for _ in range(4))
    running[:] = True
    for look in looks:
        found = classify(look.error + np.log(factor), look.deciding)
        stop = running & (look.stopping <= target) & (found != "inconclusive")
        ends = running if look is looks[-1] else stop
        verdicts[ends], used[ends], flagged[ends] = found[ends], look.blocks, look.flagged[ends]
        narrow[ends], covered[ends] = (look.stopping <= target)[ends], (np.abs(look.error) <= look.half_width)[ends]
        running = running & ~stop
    converged = narrow & ~flagged
    return Stopped(
        noise=noise,
        sd=sd,
        factor=factor,
        runs=runs,
        false=_percent((verdicts != "inconclusive") & (verdicts != truth)),
        decided=_percent(verdicts != "inconclusive"),
        converged=_percent(converged),
        flagged=_percent(flagged),
        coverage=_percent(covered[converged]) if converged.sum() >= ENOUGH_TO_JUDGE else float("nan"),
        mean_blocks=float(used.mean()),
    )


def _unequal(
    name: str, sizes: Sequence[int], sd: float, target: float, runs: int, rng: np.random.Generator
) -> list[Stopped]:
    """Restarts of unequal sizes, each with a mode of its own whose sd is a tenth of that of a block."""
    parts = [WHITE.simulate(rng, runs, size, sd) + sd / 20 * rng.standard_normal((runs, 1, 4)) for size in sizes]
    look = _look(log_interaction(np.concatenate(parts, axis=1)), np.repeat(np.arange(len(sizes)), sizes))
    return [_row(name, sd, factor, [look], target) for factor in FACTORS]


def _builds(sd: float, target: float, runs: int, rng: np.random.Generator) -> list[Stopped]:
    """Three builds of 40 blocks, each with a mode of its own: sd 1.4%, as between builds of a cell on TensorRT.

    Alone, and pooled with the sd of KNOWN_BUILDS others, drawn anew for each run.
    """
    modes = [0.014 / 2 * rng.standard_normal((runs, 1, 4)) for _ in range(3)]
    parts = [WHITE.simulate(rng, runs, 40, sd) + mode for mode in modes]
    labels = np.repeat(np.arange(3), 40)
    series = log_interaction(np.concatenate(parts, axis=1))
    known_sd = 0.014 * rng.standard_normal((runs, KNOWN_BUILDS)).std(axis=1, ddof=1)
    looks = {"3 builds, sd 1.4%": None, "3 builds, pooled": known_sd}
    return [
        _row(name, sd, factor, [_look(series, labels, labels, known)], target)
        for name, known in looks.items() for factor in FACTORS
    ]  # fmt: skip


def goals(rows: Sequence[Stopped]) -> list[Bound]:
    """Return what stopping should keep, with the worst that was found; not all of it can be kept."""
    rows = [row for row in rows if not row.noise.endswith(IDEAL)]
    white, slow = [row for row in rows if row.noise == "white"], [row for row in rows if row.noise == "ar0.9"]
    judged = [row for row in rows if not np.isnan(row.coverage)]
    flicker = [row for row in judged if row.noise == FLICKER.name]
    others = [row for row in judged if row.noise not in (FLICKER.name, STEP.name)]
    found = [
        _bound("stopping: at most 2% false verdicts near the margin", rows, "false", 2, most=True),
        _bound("stopping: converged runs cover at least 93% (without 1/f, steps)", others, "coverage", 93, most=False),
        _bound("stopping: converged 1/f runs cover at least 90%", flicker, "coverage", 90, most=False),
        _bound("stopping: at most 5% of steady runs flagged", [*white, *slow], "flagged", 5, most=True),
        _bound("stopping: at least 80% of white runs converge", white, "converged", 80, most=False),
    ]
    return [bound for bound in found if bound is not None]


def _bound(claim: str, rows: Sequence[Stopped], column: str, limit: float, *, most: bool) -> Bound | None:
    if not rows:
        return None
    worst = (max if most else min)(rows, key=lambda row: float(getattr(row, column)))
    value = float(getattr(worst, column))
    met = value <= limit if most else value >= limit
    return Bound(claim, f"{value:.1f}% ({worst.noise}, sd {worst.sd:g}, factor {worst.factor})", met)


def as_table(rows: Sequence[Stopped]) -> list[str]:
    """Return a Markdown table, one line for each noise and scale; factors side by side."""
    head = ["noise", "sd(L)", *(f"{factor:g}" for factor in FACTORS), "flagged", "converged", "covers", "blocks at 1"]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for start in range(0, len(rows), len(FACTORS)):
        group = rows[start : start + len(FACTORS)]
        at_one = next(row for row in group if row.factor == 1.0)
        cells = [at_one.noise, f"{at_one.sd:g}", *(f"{row.false:.1f} / {row.decided:.0f}" for row in group)]
        cells += [f"{min(r.flagged for r in group):.0f} to {max(r.flagged for r in group):.0f}"]
        cells += [f"{min(r.converged for r in group):.0f} to {max(r.converged for r in group):.0f}"]
        coverages = [row.coverage for row in group if not np.isnan(row.coverage)]
        cells += [f"{min(coverages):.1f}" if coverages else "", f"{at_one.mean_blocks:.0f}"]
        out.append("| " + " | ".join(cells) + " |")
    return out


def as_dicts(rows: Sequence[Stopped]) -> list[dict[str, object]]:
    """Return the rows for a CSV file."""
    return [asdict(row) for row in rows]


def _percent(mask: NDArray[np.bool_]) -> float:
    return float(100 * np.mean(mask))
