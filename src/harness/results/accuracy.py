"""Answers -> metrics of every cell, under the contract's names, and a table of what was answered for each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from harness.networks.data.labelled import Labelled
from harness.results.score import accuracy_metrics, drop
from harness.stats.roles import prefix_of

if TYPE_CHECKING:
    from harness.measure.labelled_answers import QuartetPredictions


def answer_metrics(answers: QuartetPredictions, data: Labelled, level: float) -> dict[str, float]:
    """Return accuracy, agreement with fp32 eager and, beside a baseline, what was lost against it; for each cell."""
    labels = data.test.labels()[: data.test.count]
    out: dict[str, float] = {"data/skipped": float(len(data.test.skipped))}
    for role, own in answers.own.items():
        found = accuracy_metrics(own, answers.eager[role], labels, data.test.classes, level)
        if role != "baseline" and "baseline" in answers.own:
            lost = drop(_right(answers, "baseline", labels), _right(answers, role, labels), level)
            found |= {"accuracy/drop": lost.value, "accuracy/drop_low": lost.low, "accuracy/drop_high": lost.high}
        out |= {f"{prefix_of(role)}{name}": value for name, value in found.items()}
    return out


def answer_table(answers: QuartetPredictions, data: Labelled) -> pandas.DataFrame:
    """Return one row a test image: its label, and for each cell its answer, eager's, and whether it left early."""
    columns: dict[str, Any] = {"label": data.test.labels()[: data.test.count]}
    for role, own in answers.own.items():
        columns[role] = own.ranked[:, 0]
        columns[f"{role}_eager"] = answers.eager[role].ranked[:, 0]
        if own.left_after is not None:
            columns[f"{role}_exited"] = own.left_after < len(own.router.heads) - 1
    return pandas.DataFrame(columns)


def skipped_note(data: Labelled) -> str:
    """Return one line about images that could not be read, "" where all could."""
    parts: Mapping[str, Any] = {"test": data.test, "validation": data.validation}
    counts = [f"{len(part.skipped)} {name}" for name, part in parts.items() if part is not None and part.skipped]
    return f"{' and '.join(counts)} images could not be read and were left out (skipped_images.txt)" if counts else ""


def skipped_list(data: Labelled) -> str:
    """Return the images that could not be read, one a line, with the reason."""
    parts = (data.test, *([data.validation] if data.validation is not None else []))
    return "".join(f"{line}\n" for part in parts for line in part.skipped)


def _right(answers: QuartetPredictions, role: str, labels: np.ndarray) -> np.ndarray:
    return np.asarray(answers.own[role].ranked[:, 0] == labels)
