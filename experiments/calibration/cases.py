"""Run one case: simulate its quartets, estimate them all, count what is right and what is wrong.

The estimator is the product's own code (`harness.stats.intervals.mean_interval`, which `estimate` calls as well),
applied to all quartets of a case at once. It is shift-equivariant in ln(factor), so the three true factors are
added to the same noise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import stdtrit
from simulate import Array, Noise, with_restarts

from harness.stats.coursework import LOWER, UPPER
from harness.stats.interaction import HOST_BOUND_RESTARTS, log_interaction
from harness.stats.intervals import mean_interval

MARGIN, LEVEL = 0.05, 0.95
FACTORS = {0.7: "conflict", 1.0: "independent", 1.3: "amplify"}
CHUNK = 250  # quartets at a time, so that the arrays stay in the processor's cache


@dataclass(frozen=True)
class Case:
    """A kind of noise at one size: `blocks` per restart."""

    noise: Noise
    blocks: int
    sd: float = 0.1
    restarts: int = 1
    host_bound: bool = False


@dataclass(frozen=True)
class Row:
    """What happened with one true factor; shares of all quartets, in percent."""

    noise: str
    sd: float
    restarts: int
    blocks: int
    host_bound: bool
    factor: float
    quartets: int
    coverage: float
    false: float  # decided, and contradicted by the true factor
    recognised: float  # decided, and right
    inconclusive: float
    plain_t_coverage: float
    plain_t_false: float
    coursework_false: float
    median_half_width: float  # of ln(factor)

    def as_dict(self) -> dict[str, object]:
        """Return the row for a CSV file."""
        return asdict(self)


def run_case(case: Case, quartets: int, rng: np.random.Generator) -> list[Row]:
    """Return one row per true factor."""
    logs = with_restarts(case.noise.simulate, rng, quartets, case.blocks, case.restarts, case.sd)
    series = log_interaction(logs)
    plain = series.std(axis=-1, ddof=1) / np.sqrt(series.shape[-1]) * stdtrit(series.shape[-1] - 1, (1 + LEVEL) / 2)
    recipe = usual_recipe(logs)
    error, half_width = _estimate(series, case.restarts)
    rows = []
    for factor, truth in FACTORS.items():
        shift = np.log(factor)
        found = classify(error + shift, half_width)
        if case.host_bound and case.restarts < HOST_BOUND_RESTARTS:
            found = np.full_like(found, "inconclusive")
        plain_found = classify(series.mean(axis=-1) + shift, plain)
        point = np.exp(recipe + shift)
        course = np.where(point > UPPER, "amplify", np.where(point < LOWER, "conflict", "independent"))
        rows.append(
            Row(
                noise=case.noise.name,
                sd=case.sd,
                restarts=case.restarts,
                blocks=case.blocks,
                host_bound=case.host_bound,
                factor=factor,
                quartets=quartets,
                coverage=_percent(np.abs(error) <= half_width),
                false=_percent((found != "inconclusive") & (found != truth)),
                recognised=_percent(found == truth),
                inconclusive=_percent(found == "inconclusive"),
                plain_t_coverage=_percent(np.abs(series.mean(axis=-1)) <= plain),
                plain_t_false=_percent((plain_found != "inconclusive") & (plain_found != truth)),
                coursework_false=_percent(course != truth),
                median_half_width=float(np.median(half_width)),
            )
        )
    return rows


def usual_recipe(logs: Array) -> Array:
    """Return the L that the usual recipe sees in the same series: [quartets].

    Its 20 consecutive iterations of a cell take about as long as one timed slice (0.25 s), and host noise lasts
    longer, so that their mean is worth one visit. The cells are measured one after the other: cell c in block c.
    Check: at the measured sd(L) = 0.27 this predicts 85% false verdicts between identical cells, and 84 of 100 were
    measured.
    """
    return log_interaction(logs[:, np.arange(4), np.arange(4)])


def classify(log_factor: Array, half_width: Array) -> Array:
    """Return the verdicts of many intervals; `harness.stats.verdict` for arrays."""
    low, high = np.exp(log_factor - half_width), np.exp(log_factor + half_width)
    inside = (low >= 1 - MARGIN) & (high <= 1 + MARGIN)
    return np.select(
        [low > 1 + MARGIN, high < 1 - MARGIN, inside], ["amplify", "conflict", "independent"], "inconclusive"
    )


def _estimate(series: Array, restarts: int) -> tuple[Array, Array]:
    restart_of = np.repeat(np.arange(restarts), series.shape[-1] // restarts)
    parts = [series[start : start + CHUNK] for start in range(0, len(series), CHUNK)]
    half_width = np.concatenate([mean_interval(part, restart_of).half_width(LEVEL) for part in parts])
    return series.mean(axis=-1), half_width


def _percent(mask: Array) -> float:
    return float(100 * np.mean(mask))
