"""Answers against labels: the share of correct ones, each with an interval, and the loss against the baseline.

Intervals are Wilson's (Wilson: Probable Inference, JASA 22, 1927). A drop compares two cells on the same images, so its
interval is a paired one: Agresti and Min's, who add half an image to each of the four counts and take Wald's (Agresti,
Min: Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine 24, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from scipy.special import ndtri  # of scipy.stats, which takes a second to import, only this is used

from harness.measure.cell import CellAnswers
from harness.measure.predictions import TOP, Predictions
from harness.networks.data.labelled import Labelled
from harness.stats.roles import ROLES, prefix_of
from harness.system.counts import counted

INTERACTION = "interaction/accuracy"
COLLAPSE = 0.1  # of top-1 lost against the baseline: whatever its speed, such a cell is not recommended


def answer_metrics(
    answers: Mapping[str, CellAnswers], data: Labelled, level: float, untrained: Collection[str] = ()
) -> dict[str, float]:
    """Return accuracy, agreement with fp32 eager and, beside a baseline, what was lost against it; for each cell.

    The roles in `untrained` have weights that nothing was learnt in: for them everything except accuracies is returned.
    """
    labels = data.test.labels()[: data.test.count]
    out: dict[str, float] = {"data/skipped": float(len(data.test.skipped))}
    for role, given in answers.items():
        found = accuracy_metrics(given.cell, given.eager, labels, data.test.classes, level)
        if role in untrained:
            found = {name: value for name, value in found.items() if "top1" not in name and "top5" not in name}
        elif role != "baseline" and "baseline" in answers and "baseline" not in untrained:
            lost = drop(_right(answers["baseline"], labels), _right(given, labels), level)
            found |= {"accuracy/drop": lost.value, "accuracy/drop_low": lost.low, "accuracy/drop_high": lost.high}
        out |= {f"{prefix_of(role)}{name}": value for name, value in found.items()}
    if set(answers) == set(ROLES) and not untrained:
        together = accuracy_interaction({role: _right(given, labels) for role, given in answers.items()}, level)
        out |= {
            INTERACTION: together.value,
            f"{INTERACTION}_low": together.low,
            f"{INTERACTION}_high": together.high,
        }
    return out


def interaction_in_words(row: Mapping[str, Any]) -> str:
    """Return what both techniques together do to accuracy beyond what each of them does, "" where it isn't known."""
    found = [row.get(f"{INTERACTION}{end}") for end in ("", "_low", "_high")]
    value, low, high = (math.nan if number is None else 100 * float(number) for number in found)
    if math.isnan(value):
        return ""
    more, ends = ("more", (-high, -low)) if value < 0 else ("less", (low, high))
    return f"accuracy: together they lose {abs(value):.2f} points [{ends[0]:.2f}, {ends[1]:.2f}] {more} than one by one"


def answer_table(answers: Mapping[str, CellAnswers], data: Labelled) -> pandas.DataFrame:
    """Return one row a test image: its label, and for each cell its answer, eager's, and whether it left early."""
    columns: dict[str, Any] = {"label": data.test.labels()[: data.test.count]}
    for role, given in answers.items():
        columns[role] = given.cell.ranked[:, 0]
        columns[f"{role}_eager"] = given.eager.ranked[:, 0]
        if given.cell.left_after is not None:
            columns[f"{role}_exited"] = given.cell.left_after < len(given.cell.router.heads) - 1
    return pandas.DataFrame(columns)


def skipped_note(data: Labelled) -> str:
    """Return one line about images that could not be read, "" where all could."""
    parts: Mapping[str, Any] = {"test": data.test, "validation": data.validation}
    counts = [
        counted(len(part.skipped), f"{name} image") for name, part in parts.items() if part is not None and part.skipped
    ]
    return f"left out, unreadable or without a label: {' and '.join(counts)} (skipped_images.txt)" if counts else ""


def skipped_list(data: Labelled) -> str:
    """Return the images that could not be read, one a line, with the reason."""
    parts = (data.test, *([data.validation] if data.validation is not None else []))
    return "".join(f"{line}\n" for part in parts for line in part.skipped)


def _right(answers: CellAnswers, labels: np.ndarray) -> np.ndarray:
    return np.asarray(answers.cell.ranked[:, 0] == labels)


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


def drop(baseline: np.ndarray, changed: np.ndarray, level: float = 0.95) -> Share:
    """Return by how much less of the same images `changed` [N] bool has right than `baseline` [N] bool."""
    n = len(baseline)
    lost, won = int((baseline & ~changed).sum()), int((~baseline & changed).sum())
    lost_, won_, n_ = lost + 0.5, won + 0.5, n + 2
    centre = (lost_ - won_) / n_
    half = float(ndtri(0.5 + level / 2)) * math.sqrt(lost_ + won_ - (lost_ - won_) ** 2 / n_) / n_
    value = (lost - won) / n
    return Share(value, min(max(-1.0, centre - half), value), max(min(1.0, centre + half), value))


def accuracy_interaction(right: Mapping[str, np.ndarray], level: float = 0.95) -> Share:
    """Return by how much the top-1 of two changes together differs from the sum of their own differences.

    `right` are [N] bool of the same images, by role: baseline, arch, hw, combined. Below 0: together they cost more, as
    where a pruned network is harder to quantise. An image counts -2 to 2; the interval is that of `drop`, for which it
    counts -1 to 1: half an image more on either side, so that it has a width where all answers agree.
    """
    scores = {role: found.astype(int) for role, found in right.items()}
    counts = scores["combined"] + scores["baseline"] - scores["arch"] - scores["hw"]
    n, total, squares = len(counts), int(counts.sum()), int((counts**2).sum()) + 1
    n_ = n + 2
    half = float(ndtri(0.5 + level / 2)) * math.sqrt(squares - total**2 / n_) / n_
    value = total / n
    return Share(value, min(max(-2.0, total / n_ - half), value), max(min(2.0, total / n_ + half), value))


def accuracy_metrics(
    predictions: Predictions, eager: Predictions, labels: np.ndarray, classes: int, level: float = 0.95
) -> dict[str, float]:
    """Return the metrics of one cell: `eager` are the answers of its own network in fp32 eager, `labels` [N] int."""
    right = predictions.ranked[:, 0] == labels
    top1 = share(right, level)
    out = {
        "accuracy/top1": top1.value,
        "accuracy/top1_low": top1.low,
        "accuracy/top1_high": top1.high,
        "accuracy/agreement": float((predictions.ranked[:, 0] == eager.ranked[:, 0]).mean()),
        "accuracy/images": float(len(labels)),
    }
    if classes > TOP:  # of five classes every answer is among the best five
        top5 = share((predictions.ranked == labels[:, None]).any(axis=1), level)
        out |= {"accuracy/top5": top5.value, "accuracy/top5_low": top5.low, "accuracy/top5_high": top5.high}
    if predictions.left_after is not None:
        heads = {name: found == labels for name, found in predictions.heads.items()}
        out |= predictions.router.accuracy_metrics(predictions.left_after, right, heads)
    return out
