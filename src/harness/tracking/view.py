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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.results.headline import PER_S
from harness.results.metrics import Place, placed
from harness.stats.roles import ROLES, prefix_of

if TYPE_CHECKING:
    from harness.tracking.store import Store

VIEW_KEY = "harness"  # of the view that opens: the factors
_TAG = "mlflow.sharedViewState."
_KIND_TAG = "mlflow.experimentKind"  # else MLflow guesses between its GenAI and its model pages
_KIND = "custom_model_development"
_HEADER = "deflate;"

# Columns that MLflow always shows; its own width for the name cuts it at 13 characters.
_NAME = {"attributes.`Run Name`": 215}
_CREATED = {"runDateAndNestInfo": 120}
_DURATION = {"duration": 80}
_NARROW = {"outcome": 155, "factor": 155, "together": 85, "expected": 85, "sweep": 100, "unit": 90}
_WIDE = {"arch": 130, "hw": 130, "engine": 110, "verdict": 120, "degraded": 150, "gpu": 150, "error": 400}


@dataclass(frozen=True)
class View:
    """One table that people can open by its key."""

    key: str
    name: str
    columns: tuple[str, ...]  # as the page names them: "metrics.`gain/arch`"
    order_by: str  # descending
    search: str = "tags.kind = 'quartet'"

    def state(self) -> dict[str, Any]:
        """Return the table's state, in the shape of MLflow's page (`columnOrder`, `columnWidths`: MLflow >= 3.17)."""
        widths = {**_NAME, **_CREATED, **{column: _width(column) for column in self.columns}, **_DURATION}
        return {
            "searchFilter": self.search,
            "orderByKey": self.order_by,
            "orderByAsc": False,
            "selectedColumns": list(self.columns),
            "columnOrder": list(widths),
            "columnWidths": widths,
        }


def views() -> tuple[View, ...]:
    """Return the shipped tables; their metrics are those that are declared for them (`results/metrics.py`)."""
    newest = "attributes.`start_time`"  # without the backticks the page adds the sweeps as parents, folded
    what = _params("arch", "hw", "batch_size", "engine")
    # what answers at a glance comes first, rounded: a laptop's 1280 pixels show five columns beside the name
    factors = (
        *_tags("outcome", "factor", "together", "expected", "sweep", "combined_per_s", "degraded"), *what,
        *_params("reference", "precision"), *_tags("verdict"), *_metrics("answer"), *_metrics("speed"),
        *_metrics("details"), *_tags("error"),
    )  # fmt: skip
    each_cell = (f"metrics.`{prefix_of(role)}{name}`" for name in placed("each cell") for role in reversed(ROLES))
    rounded = _tags(*(PER_S[role] for role in ("combined", "hw", "arch", "baseline")))
    throughputs = (
        *rounded, *_tags("unit", "outcome", "sweep"), *what, *_metrics("costs"), *each_cell, *_tags("degraded"),
    )  # fmt: skip
    failed = (*_tags("error"), *what, *_tags("engine_version", "gpu"))
    unfinished = "tags.kind = 'quartet' and attributes.status != 'FINISHED'"
    return (
        View(VIEW_KEY, "factors", factors, newest),
        View("harness-throughput", "throughput", throughputs, "metrics.`throughput/wall`"),
        View("harness-failed", "failed", failed, newest, unfinished),
    )


def _metrics(place: Place) -> tuple[str, ...]:
    return tuple(f"metrics.`{name}`" for name in placed(place))


def _params(*names: str) -> tuple[str, ...]:
    return tuple(f"params.`{name}`" for name in names)


def _tags(*names: str) -> tuple[str, ...]:
    return tuple(f"tags.`{name}`" for name in names)


def _width(column: str) -> int:
    """Return a column's width in pixels: its heading fits, and so does what its cells hold."""
    name = column.partition("`")[2].rstrip("`")
    return _NARROW.get(name) or max(_WIDE.get(name, 95), 55 + 5 * len(name))


def state(key: str = VIEW_KEY) -> dict[str, Any]:
    """Return the state of one of the shipped views."""
    return next(view for view in views() if view.key == key).state()


def encode(table: dict[str, Any], created_ms: int, name: str = "factors") -> str:
    """Return the value of a saved view's tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(table).encode())).decode()
    return json.dumps({"name": name, "createdAt": created_ms, "updatedAt": created_ms, "state": _HEADER + packed})


def decode(value: str) -> dict[str, Any]:
    """Return the table's state in a saved view's tag.

    Raises:
        ValueError: it is not a saved view.

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
        for view in views():
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
