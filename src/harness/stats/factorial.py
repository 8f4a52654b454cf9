"""What each technique and each pair or triple of them does, from all quartets of a grid together.

The model is log-linear: ln(throughput) of a cell is a level of its quartet plus one coefficient for each set of up to
three techniques that are all in the cell. Coded 0/1, exp(coefficient) of one technique is its gain with all others
off, of a pair its interaction factor with all others off, of a triple what the third does to that factor. A quartet's
own level takes up whatever its four cells share (clocks, temperature, the hour). See Jain, The Art of Computer
Systems Performance Analysis (1991), chapters 17 and 18, for 2^k designs; `averaged.py` has the +-1 coding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.stats.evidence import Array

TechniqueSet = frozenset[str]  # the techniques that are on
HIGHEST_ORDER = 3
_TOLERANCE = 1e-6
_LUCKY = 0.1  # of the median half-width


@dataclass(frozen=True)
class MeasuredQuartet:
    """The cells of one quartet, its baseline first: in the order baseline, arch, hw, combined if all are there."""

    cells: tuple[TechniqueSet, ...]
    log_throughput: tuple[float, ...]
    half_width: float  # of ln(factor), finite, at the level that the analysis is made for


@dataclass(frozen=True)
class Ratio:
    """A multiplicative quantity with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """Of one technique (a gain), a pair (an interaction factor) or a triple, all others being off."""

    techniques: tuple[str, ...]
    ratio: Ratio


@dataclass(frozen=True)
class Prediction:
    """The gain of a cell over the baseline as the other cells let one expect, beside the measured one if there is."""

    techniques: tuple[str, ...]
    predicted: Ratio
    measured: float | None
    assumed: tuple[tuple[str, ...], ...]  # sets of techniques never measured together, taken as multiplying


class LogLinear:
    """The fitted model: a linear combination of its coefficients has a value and an interval, or is not estimable."""

    def __init__(self, quartets: Sequence[MeasuredQuartet], level: float, order: int = HIGHEST_ORDER) -> None:
        self.terms = _terms((cell for quartet in quartets for cell in quartet.cells), order)
        blocks = [_centred([[term <= cell for term in self.terms] for cell in quartet.cells]) for quartet in quartets]
        centred = np.concatenate(blocks)
        y = np.concatenate([_centred(quartet.log_throughput) for quartet in quartets])
        precision = np.repeat(precisions(quartets), [len(quartet.cells) for quartet in quartets])
        inverse = np.linalg.pinv((centred.T * precision) @ centred, rcond=1e-10, hermitian=True)
        self._weights = inverse @ centred.T * precision  # [terms, rows]
        self._projector = self._weights @ centred
        self._coefficients = self._weights @ y
        residuals = float(precision @ (y - centred @ self._coefficients) ** 2)
        free = len(y) - len(quartets) - round(float(np.trace(self._projector)))
        self._residual_variances = residuals / free / precision if free > 0 else None  # [rows]
        self._t = float(stdtrit(free, (1 + level) / 2)) if free > 0 else math.inf
        total = float(precision @ y**2)
        self.explained = 1 - residuals / total if total > 0 else 1.0
        self._starts = np.cumsum([0, *(len(quartet.cells) for quartet in quartets[:-1])])
        self._half_widths = np.array([quartet.half_width for quartet in quartets])

    def combination(self, row: Array) -> Ratio | None:
        """Return exp(row . coefficients) with its interval; None if the quartets do not determine it."""
        on = np.flatnonzero(row)  # few of many terms
        if np.abs(row[on] @ self._projector[on] - row).max(initial=0.0) > _TOLERANCE:
            return None
        weights = row[on] @ self._weights[on]
        half = contrast_half_width(weights, self._starts, self._half_widths)
        if self._residual_variances is not None:  # what quartets disagree by, beyond what each one's blocks show
            half = max(half, self._t * math.sqrt(float(self._residual_variances @ weights**2)))
        return ratio(float(row @ self._coefficients), half)

    def effect(self, term: TechniqueSet) -> Ratio | None:
        """Return the effect of a term of the model."""
        return self.combination(np.array([float(term == known) for known in self.terms]))

    def gain(self, cell: TechniqueSet) -> Ratio | None:
        """Return the gain of a cell over the baseline."""
        return self.combination(np.array([float(term <= cell) for term in self.terms]))


def effects(model: LogLinear) -> tuple[tuple[Effect, ...], tuple[tuple[str, ...], ...]]:
    """Return all effects that the quartets determine, and the terms that they can't separate."""
    estimates = [(tuple(sorted(term)), model.effect(term)) for term in model.terms]
    return (
        tuple(Effect(term, found) for term, found in estimates if found is not None),
        tuple(term for term, found in estimates if found is None),
    )


def predict(quartets: Sequence[MeasuredQuartet], cells: Iterable[TechniqueSet], level: float) -> tuple[Prediction, ...]:
    """Return for each cell the prediction from its parts: the measured cells with a proper subset of its techniques.

    For a measured cell this tests the model; for one that was not run it is a forecast. The interval covers the noise
    of the measurements. It does not cover the assumption that the sets in `assumed` multiply, nor, for three
    techniques or more, the assumption that no effect appears only in the whole cell. A cell that its parts can't
    predict is left out.
    """
    gains = measured_gains(quartets)
    out = []
    for cell in cells:
        parts = _parts(quartets, cell)
        if not parts:
            continue
        model = LogLinear(parts, level)
        known = set(model.terms)
        if not all(frozenset([technique]) in known for technique in cell):
            continue
        found = model.gain(cell)
        if found is None:
            continue
        sets = (frozenset(subset) for size in (2, HIGHEST_ORDER) for subset in combinations(sorted(cell), size))
        unknown = [subset for subset in sets if subset not in known]
        lowest = [subset for subset in unknown if not any(smaller < subset for smaller in unknown)]
        assumed = tuple(tuple(sorted(subset)) for subset in lowest)
        measured = math.exp(gains[cell]) if cell in gains else None
        out.append(Prediction(tuple(sorted(cell)), found, measured, assumed))
    return tuple(out)


def measured_gains(quartets: Sequence[MeasuredQuartet]) -> dict[TechniqueSet, float]:
    """Return the mean ln(gain over the baseline) of every measured cell, over the quartets by their precision."""
    sums: dict[TechniqueSet, float] = {}
    weights: dict[TechniqueSet, float] = {}
    for quartet, precision in zip(quartets, precisions(quartets), strict=True):
        for cell, value in zip(quartet.cells, quartet.log_throughput, strict=True):
            sums[cell] = sums.get(cell, 0.0) + precision * (value - quartet.log_throughput[0])
            weights[cell] = weights.get(cell, 0.0) + precision
    return {cell: total / weights[cell] for cell, total in sums.items()}


def precisions(quartets: Sequence[MeasuredQuartet]) -> Array:
    """Return what each quartet counts, [Q]: 1 / half-width^2, the widest ones' 1.

    A half-width below a tenth of the median counts as that: one lucky run must not dominate all the others.
    """
    half_widths = np.array([quartet.half_width for quartet in quartets])
    floored = np.maximum(half_widths, _LUCKY * np.median(half_widths))
    return np.ones(len(floored)) if floored.max() == 0 else (floored.max() / floored) ** 2


def contrast_half_width(weights: Array, starts: NDArray[np.intp], half_widths: Array) -> float:
    """Return a half-width of sum over rows of weights * ln(throughput); a quartet's rows begin at starts[q].

    The blocks of a quartet show the noise of its L = combined + baseline - arch - hw, of half-width `half_widths[q]`.
    A contrast of the same cells (weights that sum to 0, so that shared noise cancels as it does in L) whose own
    noise is independent between cells can't have a larger variance than L's times the largest squared weight: an
    upper bound, reached when one cell makes all the noise. Quartets are independent, so their squares add.
    """
    largest = np.maximum.reduceat(np.abs(weights), starts)
    return float(np.sqrt(np.sum((largest * half_widths) ** 2)))


def ratio(log_value: float, half_width: float) -> Ratio:
    """Return exp of a value and of its interval."""
    with np.errstate(over="ignore"):
        value, low, high = np.exp([log_value, log_value - half_width, log_value + half_width])
    return Ratio(float(value), float(low), float(high))


def _terms(cells: Iterable[TechniqueSet], order: int) -> list[TechniqueSet]:
    found = {
        frozenset(term)
        for cell in set(cells)
        for size in range(1, order + 1)
        for term in combinations(sorted(cell), size)
    }
    return sorted(found, key=lambda term: (len(term), sorted(term)))


def _parts(quartets: Sequence[MeasuredQuartet], whole: TechniqueSet) -> list[MeasuredQuartet]:
    """Return what the quartets say of the proper subsets of a cell."""
    out = []
    for quartet in quartets:
        places = [place for place, cell in enumerate(quartet.cells) if cell < whole]
        if any(quartet.cells[place] for place in places):
            cells, logs = (tuple(of[place] for place in places) for of in (quartet.cells, quartet.log_throughput))
            out.append(MeasuredQuartet(cells, logs, quartet.half_width))  # type: ignore[arg-type]
    return out


def _centred(values: Sequence[Any]) -> Array:
    rows = np.asarray(values, dtype=float)
    centred: Array = rows - rows.mean(axis=0)
    return centred


MOST_TECHNIQUES = 10  # all their subsets are looked through


@dataclass(frozen=True)
class AveragedEffect:
    """Of one to k techniques, over all settings of the others of its design."""

    techniques: tuple[str, ...]
    ratio: Ratio
    share: float  # of the variation of ln(throughput) over the design's cells, in [0, 1]


@dataclass(frozen=True)
class FactorialDesign:
    """A 2^k design all of whose cells were measured."""

    techniques: tuple[str, ...]
    effects: tuple[AveragedEffect, ...]  # by falling share


def complete_designs(quartets: Sequence[MeasuredQuartet]) -> tuple[FactorialDesign, ...]:
    """Return the analysis of every complete 2^k design that lies in no larger one, k >= 2."""
    measured = set(measured_gains(quartets))
    techniques = sorted({technique for cell in measured for technique in cell})
    if len(techniques) > MOST_TECHNIQUES:
        return ()
    found: list[frozenset[str]] = []
    for size in range(len(techniques), 1, -1):
        for chosen in map(frozenset, combinations(techniques, size)):
            if not any(chosen <= larger for larger in found) and all(cell in measured for cell in subsets(chosen)):
                found.append(chosen)
    return tuple(_analyse(quartets, tuple(sorted(chosen))) for chosen in found)


def subsets(techniques: TechniqueSet) -> list[TechniqueSet]:
    """Return all 2^k cells of a design, from the baseline to everything on."""
    ordered = sorted(techniques)
    return [frozenset(chosen) for size in range(len(ordered) + 1) for chosen in combinations(ordered, size)]


def _analyse(quartets: Sequence[MeasuredQuartet], techniques: tuple[str, ...]) -> FactorialDesign:
    cells = subsets(frozenset(techniques))
    gains = measured_gains(quartets)
    values = np.array([gains[cell] for cell in cells])
    half_widths = np.array([quartet.half_width for quartet in quartets])
    starts = np.cumsum([0, *(len(quartet.cells) for quartet in quartets[:-1])])
    total = float(np.sum((values - values.mean()) ** 2))
    out = []
    for term in cells[1:]:
        signs = np.array([(-1.0) ** len(term - cell) for cell in cells])
        scale = 2 ** len(term) / len(cells)  # so that exp gives a gain, a factor, ...
        log_value = float(scale * signs @ values)
        half = contrast_half_width(_on_quartets(quartets, cells, scale * signs), starts, half_widths)
        q = float(signs @ values) / len(cells)
        share = len(cells) * q**2 / total if total > 0 else 0.0
        out.append(AveragedEffect(tuple(sorted(term)), ratio(log_value, half), share))
    return FactorialDesign(techniques, tuple(sorted(out, key=lambda effect: -effect.share)))


def _on_quartets(quartets: Sequence[MeasuredQuartet], cells: Sequence[TechniqueSet], signs: Array) -> Array:
    """Return the weights [rows] of a sum over cells of sign * mean gain, as weights of what was measured."""
    precision = precisions(quartets)
    totals = {
        cell: sum(p * (cell in quartet.cells) for p, quartet in zip(precision, quartets, strict=True)) for cell in cells
    }
    per_precision = {cell: sign / totals[cell] for cell, sign in zip(cells, signs, strict=True)}
    rows: list[float] = []
    for p, quartet in zip(precision, quartets, strict=True):
        gains = [p * per_precision.get(cell, 0.0) for cell in quartet.cells[1:]]
        rows += [-sum(gains), *gains]  # a gain is over the quartet's own baseline
    return np.array(rows)
