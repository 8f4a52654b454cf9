"""Answers against labels: shares that are right, each with an interval, and what was lost against the baseline.

Intervals are Wilson's (Wilson: Probable Inference, JASA 22, 1927). A drop compares two cells on the same images, so its
interval is a paired one: Agresti and Min's, who add half an image to each of the four counts and take Wald's (Agresti,
Min: Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine 24, 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri  # of scipy.stats, which takes a second to import, only this is used

from harness.measure.predictions import TOP, Predictions


@dataclass(frozen=True)
class Share:
    """A share with its interval."""

    value: float
    low: float
    high: float


def share(right: np.ndarray, level: float = 0.95) -> Share:
    """Return the share of `right` [N] bool that is true, with Wilson's interval; ValueError for none."""
    n, value = len(right), float(right.mean()) if len(right) else math.nan
    if not n:
        raise ValueError("a share of no images")
    z = float(ndtri(0.5 + level / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    # rounding must not put the share outside its own interval where all, or none, are right
    return Share(value, min(max(0.0, centre - half), value), max(min(1.0, centre + half), value))


def drop(baseline: np.ndarray, other: np.ndarray, level: float = 0.95) -> Share:
    """Return by how much less of the same images `other` [N] bool has right than `baseline` [N] bool."""
    n = len(baseline)
    lost, won = int((baseline & ~other).sum()), int((~baseline & other).sum())
    lost_, won_, n_ = lost + 0.5, won + 0.5, n + 2
    centre = (lost_ - won_) / n_
    half = float(ndtri(0.5 + level / 2)) * math.sqrt(lost_ + won_ - (lost_ - won_) ** 2 / n_) / n_
    value = (lost - won) / n
    return Share(value, min(max(-1.0, centre - half), value), max(min(1.0, centre + half), value))


def accuracy_metrics(
    own: Predictions, eager: Predictions, labels: np.ndarray, classes: int, level: float = 0.95
) -> dict[str, float]:
    """Return the metrics of one cell: `eager` are the answers of its own network in fp32 eager, `labels` [N] int."""
    right = own.ranked[:, 0] == labels
    top1 = share(right, level)
    out = {
        "accuracy/top1": top1.value,
        "accuracy/top1_low": top1.low,
        "accuracy/top1_high": top1.high,
        "accuracy/agreement": float((own.ranked[:, 0] == eager.ranked[:, 0]).mean()),
        "accuracy/images": float(len(labels)),
    }
    if classes > TOP:  # of five classes every answer is among the best five
        top5 = share((own.ranked == labels[:, None]).any(axis=1), level)
        out |= {"accuracy/top5": top5.value, "accuracy/top5_low": top5.low, "accuracy/top5_high": top5.high}
    if own.left_after is not None:
        heads = {name: found == labels for name, found in own.heads.items()}
        out |= own.router.accuracy_metrics(own.left_after, right, heads)
    return out
