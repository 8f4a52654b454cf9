"""2^k designs: effects averaged over all settings of the other techniques, and the variation each one explains.

Coded +-1 as in Jain (1991), chapter 17: q of a set of techniques is the mean of ln(throughput) times the product of
their signs. A main effect exp(2 q) is a technique's gain, exp(4 q) of a pair its interaction factor, exp(8 q) of a
triple what the third does to that factor, each averaged over everything else. The share of q is q^2 over the sum of
all squares. For one quartet (k = 2) exp(4 q) is the quartet's own factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.stats.evidence import Array
from harness.stats.factorial import (
    MeasuredQuartet,
    Ratio,
    TechniqueSet,
    contrast_half_width,
    measured_gains,
    precisions,
    ratio,
)

MOST_TECHNIQUES = 10  # all their subsets are looked through


@dataclass(frozen=True)
class AveragedEffect:
    """Of one to k techniques, over all settings of the others of its design."""

    techniques: tuple[str, ...]
    ratio: Ratio
    share: float  # of the variation of ln(throughput) over the design's cells, in [0, 1]


@dataclass(frozen=True)
class Design:
    """A 2^k design all of whose cells were measured."""

    techniques: tuple[str, ...]
    effects: tuple[AveragedEffect, ...]  # by falling share


def complete_designs(quartets: Sequence[MeasuredQuartet]) -> tuple[Design, ...]:
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
    return [frozenset(one) for size in range(len(ordered) + 1) for one in combinations(ordered, size)]


def _analyse(quartets: Sequence[MeasuredQuartet], techniques: tuple[str, ...]) -> Design:
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
    return Design(techniques, tuple(sorted(out, key=lambda effect: -effect.share)))


def _on_quartets(quartets: Sequence[MeasuredQuartet], cells: Sequence[TechniqueSet], signs: Array) -> Array:
    """Return the weights [rows] of a sum over cells of sign * mean gain, as weights of what was measured."""
    precision = precisions(quartets)
    totals = {cell: sum(p * (cell in one.cells) for p, one in zip(precision, quartets, strict=True)) for cell in cells}
    per_precision = {cell: sign / totals[cell] for cell, sign in zip(cells, signs, strict=True)}
    rows: list[float] = []
    for p, quartet in zip(precision, quartets, strict=True):
        own = [p * per_precision.get(cell, 0.0) for cell in quartet.cells[1:]]
        rows += [-sum(own), *own]  # a gain is over the quartet's own baseline
    return np.array(rows)
