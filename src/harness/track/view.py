"""Ship a runs table that shows the result: MLflow's own shows no metric until someone picks columns by hand.

The mechanism is the one of MLflow's "save view" button (3.17: an experiment tag that the page decodes). It is not
documented, so a version that ignores it costs a warning or a plain table, never an error.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.track.store import Store

VIEW_KEY = "harness"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_VIEW_NAME = "Quartets: factor, verdict, gains"
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
# Columns that MLflow always shows; its own width for the name cuts it at 13 characters.
_NAME = {"attributes.`Run Name`": 260}
_CREATED = {"runDateAndNestInfo": 135}
_DURATION = {"duration": 80}


def state() -> dict[str, Any]:
    """Return the table's state, in the shape of MLflow's page (`columnOrder`, `columnWidths`: MLflow >= 3.17)."""
    widths = {**_NAME, **_CREATED, **_COLUMNS, **_DURATION}
    return {
        "searchFilter": "tags.kind = 'quartet'",
        # Newest first. Without the backticks the page knows the column and adds the sweeps as parents, folded.
        "orderByKey": "attributes.`start_time`",
        "orderByAsc": False,
        "selectedColumns": list(_COLUMNS),
        "columnOrder": list(widths),
        "columnWidths": widths,
    }


def encode(table: dict[str, Any], created_ms: int) -> str:
    """Return the value of a saved view's tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(table).encode())).decode()
    return json.dumps({"name": _VIEW_NAME, "createdAt": created_ms, "updatedAt": created_ms, "state": _HEADER + packed})


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
    """Put the view into the store's experiment; return whether it is there. Once there, nothing is written."""
    try:
        mlflow = store.client()
        tags = mlflow.get_experiment(store.experiment_id).tags
        if not _is_current(tags.get(VIEW_TAG)):
            value = encode(state(), int(time.time() * 1000))
            mlflow.set_experiment_tag(store.experiment_id, VIEW_TAG, value)
        if _KIND_TAG not in tags:
            mlflow.set_experiment_tag(store.experiment_id, _KIND_TAG, _KIND)
    except Exception as error:  # whatever it is: a table without its columns is no reason to lose a measurement
        logging.getLogger(__name__).warning("MLflow did not take the shipped view: %s", str(error)[:200])
        return False
    return True


def view_url(store: Store, base_url: str) -> str:
    """Return the address that opens the shipped view on the MLflow server at `base_url`."""
    page = f"{base_url.rstrip('/')}/#/experiments/{store.experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"


def _is_current(value: str | None) -> bool:
    try:
        return value is not None and decode(value) == state()
    except ValueError:
        return False
