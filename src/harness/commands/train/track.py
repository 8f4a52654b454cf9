"""A training as a run in MLflow: its options, a curve an epoch, how it ended. It goes on in the same run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from harness.system.errors import first_line
from harness.tracking import Store

KIND = "training"  # beside `sweep` and `quartet`


def open_run(store: Store, run_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Return the id of a running run: `run_id` again if that is still there, else a new one."""
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    mlflow = store.client()
    if run_id:
        try:
            mlflow.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException:  # another store, or somebody deleted it: the training itself is on the disk
            pass
    run = mlflow.create_run(store.experiment_id, run_name=name, tags={**tags, "kind": KIND})
    mlflow.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    return str(run.info.run_id)


def log_epoch(store: Store, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Add one point to each curve; a store that is away or locked costs a point, which is said, not the training."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    now_ms = int(time.time() * 1000)
    try:
        store.client().log_batch(
            run_id, metrics=[Metric(name, value, now_ms, epoch) for name, value in metrics.items()]
        )
    except MlflowException as error:
        print(f"harness.train: epoch {epoch} is not in the record: {first_line(error)}", file=sys.stderr)
