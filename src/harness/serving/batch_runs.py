"""Every batch that a test ran, kept as arrays: from these the busy share over time is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.serving.queries import BatchRun


@dataclass(frozen=True)
class BatchRecord:
    """The batches of one test, [n] each, in the order they ran; seconds since its first request was issued."""

    stage: NDArray[np.int64]  # counted from 1
    started_s: NDArray[np.float64]
    completed_s: NDArray[np.float64]
    requests: NDArray[np.int64]
    executed: NDArray[np.int64]  # the size it was run at, padding included

    @staticmethod
    def of(runs: Sequence[BatchRun], zero_s: float) -> BatchRecord:
        """Return the record of `runs`, whose times are on a clock that showed `zero_s` at the first request."""
        return BatchRecord(
            stage=np.array([run.stage for run in runs], dtype=np.int64),
            started_s=np.array([run.started_s - zero_s for run in runs], dtype=float),
            completed_s=np.array([run.completed_s - zero_s for run in runs], dtype=float),
            requests=np.array([run.requests for run in runs], dtype=np.int64),
            executed=np.array([run.executed for run in runs], dtype=np.int64),
        )

    def busy_share(self, window_s: float) -> NDArray[np.float64]:
        """Return the share of each whole window in which a batch ran, [floor(last completion / window_s)].

        A server runs one batch at a time, so that the intervals do not overlap.
        """
        edges = np.arange(0.0, self.completed_s.max(initial=0.0) + 1e-12, window_s)
        starts, ends = self.started_s[:, None], self.completed_s[:, None]
        overlap = np.minimum(ends, edges[None, 1:]) - np.maximum(starts, edges[None, :-1])
        share: NDArray[np.float64] = np.clip(overlap, 0.0, None).sum(axis=0) / window_s
        return share


def write_batches(tests: Sequence[tuple[Mapping[str, object], BatchRecord]], path: Path) -> None:
    """Write one row a batch; each record with what identifies its test (`cell`, `repeat`, `rate`)."""
    import pandas

    parts = [
        pandas.DataFrame({field.name: getattr(record, field.name) for field in fields(record)}).assign(**name)
        for name, record in tests
    ]
    pandas.concat(parts).to_parquet(path, compression="zstd", index=False)
