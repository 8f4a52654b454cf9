"""Ship runs tables that show the result: MLflow's own shows no metric until someone picks columns by hand.

The mechanism is the one of MLflow's "save view" button (3.17: an experiment tag that the page decodes). It is not
documented, so a version that ignores it costs a warning or a plain table, never an error.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.tracking.store import Store

VIEW_KEY = "harness"  # of the view that opens: the factors
_TAG = "mlflow.sharedViewState."
VIEW_TAG = f"{_TAG}{VIEW_KEY}"
_KIND_TAG = "mlflow.experimentKind"  # else MLflow guesses between its GenAI and its model pages
_KIND = "custom_model_development"
_HEADER = "deflate;"

# Left to right: the answer, how fast, what was combined, why, what went wrong. Widths in pixels: on a screen of
# 1920 pixels the columns up to the throughputs show without scrolling.
_COLUMNS = {
    "metrics.`interaction/factor`": 140,
    "metrics.`interaction/low`": 125,
    "metrics.`interaction/high`": 125,
    "tags.`verdict`": 120,
    "tags.`degraded`": 100,
    "metrics.`gain/combined`": 120,
    "metrics.`gain/expected`": 120,
    "metrics.`throughput/wall`": 130,
    "metrics.`throughput/device`": 140,
    "metrics.`accuracy/top1`": 120,
    "params.`arch`": 130,
    "params.`hw`": 120,
    "params.`batch_size`": 95,
    "params.`engine`": 110,
    "params.`reference`": 95,
    "params.`precision`": 95,
    "metrics.`gain/arch`": 100,
    "metrics.`gain/hw`": 100,
    "metrics.`latency_ms/p50`": 130,
    "metrics.`latency_ms/p95`": 130,
    "metrics.`latency_ms/p99`": 130,
    "tags.`error`": 400,
}
_THROUGHPUT_COLUMNS = {
    "params.`arch`": 150,
    "params.`hw`": 130,
    "params.`batch_size`": 95,
    "params.`engine`": 110,
    **{
        f"metrics.`{prefix}throughput/{boundary}`": 170
        for boundary in ("device", "wall")
        for prefix in ("", "hw/", "arch/", "baseline/")
    },
    **{f"metrics.`latency_ms/{name}`": 120 for name in ("p50", "p95", "p99")},
    "metrics.`gpu/peak_memory_mb`": 150,
    "metrics.`roofline/share`": 120,
    "tags.`degraded`": 200,
}
_FAILED_COLUMNS = {
    "tags.`error`": 700,
    "params.`arch`": 150,
    "params.`hw`": 130,
    "params.`batch_size`": 95,
    "params.`engine`": 110,
    "tags.`engine_version`": 130,
    "tags.`gpu`": 150,
}
# Columns that MLflow always shows; its own width for the name cuts it at 13 characters.
_NAME = {"attributes.`Run Name`": 260}
_CREATED = {"runDateAndNestInfo": 135}
_DURATION = {"duration": 80}


@dataclass(frozen=True)
class View:
    """One table that people can open by its key."""

    key: str
    name: str
    columns: Mapping[str, int]  # as the page names them, with their widths in pixels
    order_by: str  # descending
    search: str = "tags.kind = 'quartet'"

    def state(self) -> dict[str, Any]:
        """Return the table's state, in the shape of MLflow's page (`columnOrder`, `columnWidths`: MLflow >= 3.17)."""
        widths = {**_NAME, **_CREATED, **self.columns, **_DURATION}
        return {
            "searchFilter": self.search,
            "orderByKey": self.order_by,
            "orderByAsc": False,
            "selectedColumns": list(self.columns),
            "columnOrder": list(widths),
            "columnWidths": widths,
        }


# Newest first. Without the backticks the page knows the column and adds the sweeps as parents, folded.
_NEWEST = "attributes.`start_time`"
VIEWS = (
    View(VIEW_KEY, "factors", _COLUMNS, _NEWEST),
    View("harness-throughput", "throughput", _THROUGHPUT_COLUMNS, "metrics.`throughput/wall`"),
    View(
        "harness-failed",
        "failed",
        _FAILED_COLUMNS,
        _NEWEST,
        "tags.kind = 'quartet' and attributes.status != 'FINISHED'",
    ),
)


def state(key: str = VIEW_KEY) -> dict[str, Any]:
    """Return the state of one of the shipped views."""
    return next(view for view in VIEWS if view.key == key).state()


def encode(table: dict[str, Any], created_ms: int, name: str = "factors") -> str:
    """Return the value of a saved view's tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(table).encode())).decode()
    return json.dumps({"name": name, "createdAt": created_ms, "updatedAt": created_ms, "state": _HEADER + packed})


def decode(value: str) -> dict[str, Any]:
    """Return the table's state in a saved view's tag.

    Raises:
        ValueError: it is not one.

    """
    try:
        packed = json.loads(value)["state"].removeprefix(_HEADER)
        return dict(json.loads(zlib.decompress(base64.b64decode(packed))))
    except (KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError(f"not a saved view: {error}") from error


def install_views(store: Store) -> bool:
    """Put the views into the store's experiment; return whether they are there. Once there, nothing is written."""
    try:
        mlflow = store.client()
        tags = mlflow.get_experiment(store.experiment_id).tags
        for view in VIEWS:
            if not _is_current(tags.get(f"{_TAG}{view.key}"), view):
                value = encode(view.state(), int(time.time() * 1000), view.name)
                mlflow.set_experiment_tag(store.experiment_id, f"{_TAG}{view.key}", value)
        if _KIND_TAG not in tags:
            mlflow.set_experiment_tag(store.experiment_id, _KIND_TAG, _KIND)
    except Exception as error:  # whatever it is: a table without its columns is no reason to lose a measurement
        logging.getLogger(__name__).warning("MLflow did not take the shipped views: %s", str(error)[:200])
        return False
    return True


def view_url(store: Store, base_url: str, key: str = VIEW_KEY) -> str:
    """Return the address that opens a shipped view on the MLflow server at `base_url`."""
    page = f"{base_url.rstrip('/')}/#/experiments/{store.experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={key}"


def _is_current(value: str | None, view: View) -> bool:
    try:
        return value is not None and decode(value) == view.state()
    except ValueError:
        return False
