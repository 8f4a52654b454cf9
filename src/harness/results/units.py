"""What a row counts: images, or samples of a network that takes something else, as its tag `sample` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.results.metrics import find_metric

SAMPLE = "sample"  # the tag
_IMAGE = "image"  # of rows from before there was one


def counted_in(row: Mapping[str, Any], text: str) -> str:
    """Return a text that speaks of images, as `GFLOP/image`, in what a row counts."""
    word = row.get(SAMPLE)
    return text.replace(_IMAGE, word if isinstance(word, str) and word else _IMAGE)


def unit_of_throughput(row: Mapping[str, Any]) -> str:
    """Return what the throughput of a row counts: images/s or samples/s, or under load requests/s."""
    metric = find_metric(f"throughput/{row.get('boundary')}")
    return counted_in(row, metric.unit if metric is not None else "images/s")


def shared_unit(units: Iterable[str]) -> str:
    """Return the unit of figures that share a heading or an axis: theirs, each once."""
    return " or ".join(dict.fromkeys(units)) or "throughput"
