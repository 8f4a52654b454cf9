"""The interaction factor of a quartet: its value, its interval, and what may be said about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from harness.stats.evidence import Array
from harness.stats.intervals import MeanInterval, block_shares, mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.roles import by_role, same_rows
from harness.stats.sequential import cautious_half_width, stopping_half_width
from harness.stats.stationarity import Halves, could_move, halves, remembers
from harness.stats.verdict import Verdict, check_margin, distance_to_margin, is_decided, verdict
from harness.system.counts import counted

MINIMUM_BLOCKS = 5  # fewer can't show their own noise, however small they make it look
HOST_BOUND_RESTARTS = 8  # fewer give false verdicts when a cell keeps one of two modes for a whole run


@dataclass(frozen=True)
class Gains:
    """Ratios of the mean throughputs to the baseline's (geometric; restarts count equally); `expected` is arch * hw."""

    arch: float
    hw: float
    combined: float
    expected: float


@dataclass(frozen=True)
class Interaction:
    """combined gain / (arch gain * hw gain) with a confidence interval and a verdict."""

    factor: float
    low: float
    high: float
    verdict: Verdict
    reason: str  # one line: why this verdict, or what is missing for one
    blocks: int
    restarts: int
    builds: int  # with 1 the interval speaks for that build only, unless others are known (`for_others`)
    half_width: float  # of ln(factor): about the relative half-width of the factor
    effective_replicates: float  # independent blocks (or restarts) that the data are worth
    p_value: float  # smallest 1 - level at which this verdict would still stand; 1 if it never does
    gains: Gains
    margin: float
    level: float
    unstationary: str = ""  # how the run changed, if it did: then only what the change can't overturn is decided
    stopping_half_width: float = math.inf  # what has to be narrow before a run may end: see `stats.sequential`


Unseen = Literal["restart", "build"]
_OTHERS = {"restart": "processes", "build": "builds"}


def for_others(found: Interaction, spread: KnownSpread, only: Unseen) -> Interaction:
    """Return a factor that was measured in one restart, or of one build, with the interval that holds for others too.

    Other processes have their memory elsewhere, another build may choose other kernels, and the blocks of one know
    nothing of that: what is known of it is added to their variance. A verdict that the wider interval does not give is
    withheld.

    Args:
        found: of one restart, or of one build.
        spread: how far others move ln(factor).
        only: which of the two there is one of: "restart" or "build".
    """
    log_factor, margin = math.log(found.factor), found.margin
    half_width = math.hypot(found.half_width, spread.half_width(found.level))
    _, low, high = _factors(log_factor, half_width)
    wider = replace(found, low=low, high=high, half_width=half_width)
    if found.p_value == 1:  # nothing can be said of these blocks
        return wider
    wider = replace(wider, p_value=max(found.p_value, _p_for_others(found, spread)))
    moved = verdict(low, high, margin)
    if moved is found.verdict and is_decided(moved):
        return replace(wider, reason=_reason(moved, low, high, margin))
    if is_decided(moved):  # it would be at this level, not at the one that decides
        return wider
    reason = _reason(moved, low, high, margin)
    if only_others_decide(found, spread):
        reason = (
            f"of one {only}: other {_OTHERS[only]} move the factor by {spread.sd:.1%} (sd), and with that "
            f"{reason.replace('measure longer', f'measure several {only}s')}"
        )
    return replace(wider, verdict=Verdict.INCONCLUSIVE, reason=reason)


def only_others_decide(found: Interaction, spread: KnownSpread) -> bool:
    """Whether more blocks of one restart, or build, decide nothing, however narrow their interval becomes."""
    possible = _factors(math.log(found.factor), spread.half_width(found.level))
    return not is_decided(verdict(*possible[1:], found.margin))


def _p_for_others(found: Interaction, spread: KnownSpread) -> float:
    """Return the smallest 1 - level at which the wider interval keeps clear of the margin."""
    distance = distance_to_margin(math.log(found.factor), found.margin)
    of_blocks = found.half_width / NormalDist().inv_cdf(0.5 + found.level / 2)

    def room(alpha: float) -> float:
        return distance - math.hypot(of_blocks * NormalDist().inv_cdf(1 - alpha / 2), spread.half_width(1 - alpha))

    least, most = 1e-12, 1 - 1e-9
    return float(least if room(least) > 0 else 1.0 if room(most) < 0 else brentq(room, least, most))


def estimate(
    blocks: ArrayLike,
    groups: ArrayLike | None = None,
    margin: float = 0.05,
    level: float = 0.95,
    *,
    host_bound: bool = False,
    builds: ArrayLike | None = None,
    build_spread: KnownSpread | None = None,
    decision_level: float | None = None,
) -> Interaction:
    """Estimate the interaction factor from interleaved blocks.

    With y = ln(throughput), L_b = y_combined + y_baseline - y_arch - y_hw and factor = exp(mean of L). In terms of a
    2^2 factorial design coded +-1, the interaction effect of y is q = ln(factor) / 4 (Jain, The Art of Computer
    Systems Performance Analysis, 1991, chapter 17). Noise common to the four cells of a block cancels in L; what is
    left may be autocorrelated, and the interval allows for that.

    Args:
        blocks: [B, 4] throughput of every block in time order, columns baseline, arch, hw, combined; any unit, B >= 1.
            Where columns have names (a DataFrame, a mapping, a structured array) they count, in any order.
        groups: [B] label of the restart (fresh processes) of each block; None: all from one restart. Restarts count
            equally, however many blocks each has.
        margin: a factor within 1 - margin and 1 + margin counts as a product.
        level: confidence level of the interval.
        host_bound: a cell waits for the host, whose modes may outlast a run: without at least 8 restarts the verdict
            is `inconclusive`, whatever the interval.
        builds: [B] label of the engine build of each block; restarts are nested in builds. None: one build. Builds
            count equally.
        build_spread: how far another build of the cells moves ln(factor), where other measurements tell: pooled with
            what several builds say of their scatter (never below it). One build's is not changed: `for_others`.
        decision_level: confidence level of the interval that decides, where it is to be above `level`. Who looks at
            the data again and again until they decide needs more than 95% (`verdict.DECISION_LEVEL`), and an interval
            that holds for noise which a short run can't show (`stats.sequential`).

    Raises:
        ValueError: on a wrong shape, other names of columns, a throughput that is not finite and positive, or a margin
            or level outside (0, 1).
    """
    check_margin(margin)
    for name, value in (("level", level), ("decision_level", decision_level or level)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    logs = np.log(_checked(blocks))
    for name, labels in (("groups", groups), ("builds", builds)):
        if not same_rows(blocks, labels):
            raise ValueError(f"{name} and blocks have other indices: give both in the same order, with the same index")
    levels = (level, max(level, decision_level or level))
    nesting = replace(_nesting(len(logs), groups, builds), build_spread=build_spread)
    return _judged(logs, nesting, margin, levels, host_bound, decision_level is not None)


def _judged(
    logs: Array, nesting: _Nesting, margin: float, levels: tuple[float, float], host_bound: bool, looks: bool
) -> Interaction:
    """Return the factor of ln(throughput) [B, 4] with its interval, at levels[0], and verdict, at levels[1].

    `looks`: the run ends when it has decided, so that it may only decide what it could with worse noise.
    """
    series = log_interaction(logs)
    interval = mean_interval(series, nesting.restart_of, nesting.build_of, nesting.build_spread)
    log_factor, half_width = float(interval.mean), float(interval.half_width(levels[0]))
    factor, low, high = _factors(log_factor, half_width)
    compared = halves(series, nesting.restart_of)
    unstationary = _unstationary(interval, compared)
    missing = _missing(series, nesting.restarts, host_bound)
    deciding = cautious_half_width(interval, len(logs), levels[1]) if looks else interval.half_width(levels[1])
    moved = float(could_move(interval, compared, levels[1]))
    if missing is None and unstationary:
        possible = _factors(log_factor, float(deciding) + moved)
        missing = None if is_decided(verdict(*possible[1:], margin)) else unstationary
    found, reason = Verdict.INCONCLUSIVE, missing
    if missing is None:
        found, reason = _decision(low, high, _factors(log_factor, float(deciding)), margin, levels)
        if not is_decided(found) and _only_builds_decide(interval, nesting, log_factor, margin, levels[1]):
            reason = reason.replace("measure longer", "measure more builds")
    return Interaction(
        factor=factor,
        low=low,
        high=high,
        verdict=found,
        reason=str(reason),
        blocks=len(logs),
        restarts=nesting.restarts,
        builds=nesting.builds,
        half_width=half_width,
        effective_replicates=float(interval.effective_replicates()),
        p_value=float(interval.p_value(distance_to_margin(log_factor, margin) - moved)) if missing is None else 1.0,
        gains=_gains(logs, nesting),
        margin=margin,
        level=levels[0],
        unstationary=unstationary,
        stopping_half_width=float(stopping_half_width(interval, len(logs), *levels)),
    )


def _factors(log_factor: float, half_width: float) -> tuple[float, float, float]:
    """Return the factor and the bounds of its interval."""
    with np.errstate(over="ignore"):
        return tuple(float(np.exp(x)) for x in (log_factor, log_factor - half_width, log_factor + half_width))  # type: ignore[return-value]


def _decision(
    low: float, high: float, strict: tuple[float, float, float], margin: float, levels: tuple[float, float]
) -> tuple[Verdict, str]:
    """Return the verdict, which the interval at the decision level gives, and the reason, by the reported interval."""
    found = verdict(strict[1], strict[2], margin)
    if not is_decided(found) and is_decided(verdict(low, high, margin)):
        return found, (
            f"significant at {levels[0]:.4g}, not at {levels[1]:.4g}, which stopping once it is decided requires: "
            "measure longer"
        )
    return found, _reason(found, low, high, margin)


def _only_builds_decide(
    interval: MeanInterval, nesting: _Nesting, log_factor: float, margin: float, level: float
) -> bool:
    """Whether more blocks decide nothing: these builds would, if they were all there are, or none so few ever can."""
    if interval.of_these is None:
        return False
    these = cautious_half_width(interval.of_these_builds(), len(nesting.build_of), level)
    if is_decided(verdict(*_factors(log_factor, float(these))[1:], margin)):
        return True
    known = nesting.build_spread
    return known is not None and too_few_builds(log_factor, known, nesting.builds, margin, level)


def too_few_builds(log_factor: float, spread: KnownSpread, builds: int, margin: float, level: float) -> bool:
    """Whether so many builds can't decide a factor, however well they are measured."""
    return not is_decided(verdict(*_factors(log_factor, spread.floor(level, builds))[1:], margin))


def _unstationary(interval: MeanInterval, compared: Halves | None) -> str:
    if remembers(interval):
        return "not stationary: the noise is as slow as the run is long (1/f), and its mean says little"
    if compared is None or not compared.differ():
        return ""
    return (
        f"not stationary: the factor changed by {abs(np.expm1(float(compared.difference))):.2%} between the halves "
        f"of the run, where {np.expm1(float(compared.allowed)):.2%} could be noise"
    )


def log_interaction(log_throughput: Array) -> Array:
    """Return L [..., B] of ln(throughput) [..., B, 4], order baseline, arch, hw, combined."""
    baseline, arch, hw, combined = np.moveaxis(log_throughput, -1, 0)
    log_factor: Array = (combined - arch) + (baseline - hw)
    return log_factor


def _checked(blocks: ArrayLike) -> Array:
    throughput = np.asarray(by_role(blocks), dtype=float)
    if throughput.ndim != 2 or throughput.shape[1] != 4 or throughput.shape[0] == 0:
        raise ValueError(f"blocks must be [B, 4] (baseline, arch, hw, combined), B >= 1, got shape {throughput.shape}")
    bad = ~(np.isfinite(throughput) & (throughput > 0))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"throughput must be finite and positive, got {throughput[row, column]} in block {row}, column {column}"
        )
    return throughput


@dataclass(frozen=True)
class _Nesting:
    """Blocks in restarts in builds: [B] the number of each block's restart and build, and how many there are."""

    restart_of: NDArray[np.intp]
    restarts: int
    build_of: NDArray[np.intp]
    builds: int
    build_spread: KnownSpread | None = None  # of ln(factor), known from elsewhere


def _nesting(count: int, groups: ArrayLike | None, builds: ArrayLike | None) -> _Nesting:
    """Return the nesting; restarts of one label in two builds are two."""
    build_of, build_count = _numbered(builds, count, "builds")
    label_of, _ = _numbered(groups, count, "groups")
    restart_of, restart_count = _numbered(label_of * build_count + build_of, count, "groups")
    return _Nesting(restart_of, restart_count, build_of, build_count)


def _numbered(labels: ArrayLike | None, count: int, name: str) -> tuple[NDArray[np.intp], int]:
    if labels is None:
        return np.zeros(count, dtype=np.intp), 1
    given = np.asarray(labels)
    if given.shape != (count,):
        raise ValueError(f"{name} must be one label a block, [{count}], got shape {given.shape}")
    distinct, numbers = np.unique(given, return_inverse=True)
    return numbers.astype(np.intp), distinct.size


def _gains(logs: Array, nesting: _Nesting) -> Gains:
    baseline, arch, hw, combined = block_shares(nesting.restart_of, nesting.build_of) @ logs
    arch_gain, hw_gain = float(np.exp(arch - baseline)), float(np.exp(hw - baseline))
    return Gains(arch_gain, hw_gain, float(np.exp(combined - baseline)), arch_gain * hw_gain)


def _missing(series: Array, restarts: int, host_bound: bool) -> str | None:
    if series.size < MINIMUM_BLOCKS:
        return f"{counted(series.size, 'block')}, a verdict needs at least {MINIMUM_BLOCKS}"
    if np.ptp(series) == 0:
        return f"all {series.size} blocks are identical: the clock is too coarse to show their noise"
    if host_bound and restarts < HOST_BOUND_RESTARTS:
        return f"host-bound cell: {counted(restarts, 'restart')}, a verdict needs at least {HOST_BOUND_RESTARTS}"
    return None


def _reason(found: Verdict, low: float, high: float, margin: float) -> str:
    if not is_decided(found):
        crossed = [bound for bound in (1 - margin, 1 + margin) if low <= bound <= high]
        return f"the interval contains {' and '.join(f'{bound:.4g}' for bound in crossed)}: measure longer"
    return {
        Verdict.AMPLIFY: f"all of the interval is above {1 + margin:.4g}",
        Verdict.CONFLICT: f"all of the interval is below {1 - margin:.4g}",
        Verdict.INDEPENDENT: f"all of the interval is within {1 - margin:.4g} and {1 + margin:.4g}",
    }[found]
