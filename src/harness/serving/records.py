"""Our record of every request and of every batch of a test, beside LoadGen's, and the figures made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NAN = float("nan")


@dataclass(slots=True)
class Request:
    """One request on its way; times are `time.perf_counter()` seconds."""

    query_id: int
    sample: int  # which image it is for
    issued_s: float  # LoadGen handed it over
    queued_s: float = NAN  # the server saw it
    started_s: float = NAN  # the first batch it was in began
    completed_s: float = NAN  # its answer was on the host
    batch_size: int = 0  # requests in that batch
    left_after: int = 0  # the stage after which it left, counted from 0
    exited: bool = False  # there are stages that it did not reach
    answer: NDArray[np.generic] | None = None  # logits [classes]; kept only where they are checked


@dataclass(frozen=True)
class BatchRun:
    """One batch."""

    stage: int  # counted from 1
    started_s: float
    completed_s: float
    requests: int
    executed: int  # the size it was run at, padding included
    host_sync_s: float = 0.0  # from the end of a stage to the start of what follows the router's decision


@dataclass(frozen=True)
class QueryRecord:
    """All requests of one test, [n] each, in the order they were issued; seconds since the first one was.

    A request that was shed (never run, because the queue had grown without end) has NaN where it never got.
    """

    issued_s: Array
    queued_s: Array
    started_s: Array
    completed_s: Array
    batch_size: NDArray[np.int64]
    exited: NDArray[np.bool_]

    @staticmethod
    def of(requests: Sequence[Request]) -> QueryRecord:
        """Return the record of finished requests."""
        ordered = sorted(requests, key=lambda request: request.issued_s)
        zero = ordered[0].issued_s if ordered else 0.0

        def times(name: str) -> Array:
            return np.array([getattr(request, name) - zero for request in ordered], dtype=float)

        return QueryRecord(
            issued_s=times("issued_s"),
            queued_s=times("queued_s"),
            started_s=times("started_s"),
            completed_s=times("completed_s"),
            batch_size=np.array([request.batch_size for request in ordered], dtype=np.int64),
            exited=np.array([request.exited for request in ordered], dtype=bool),
        )

    @property
    def latency_s(self) -> Array:
        """Issue to answer of each request; NaN for one that was shed."""
        return self.completed_s - self.issued_s

    @property
    def early_share(self) -> float:
        """Share of the requests that were run which did not reach the last stage."""
        return float(self.exited[~np.isnan(self.completed_s)].mean())

    @property
    def shed(self) -> int:
        """How many requests were never run."""
        return int(np.isnan(self.completed_s).sum())

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class LoadFigures:
    """What one test says about the server, from our own record; a figure that does not apply is None."""

    queue_ms: float  # mean, issue to the start of the batch
    compute_ms: float  # mean of a batch
    padding_share: float  # of all that was run
    utilisation: float  # share of the test's time in which a batch ran
    mean_batch_size: float
    batches: int
    host_sync_ms: float | None = None  # mean of a first stage


def figures(record: QueryRecord, runs: Sequence[BatchRun], has_router: bool) -> LoadFigures:
    """Return the figures of one test; raise ValueError where nothing was run."""
    if not runs:
        raise ValueError("no batch was run")
    first = [run for run in runs if run.stage == 1]
    executed = sum(run.executed for run in runs)
    span_s = max(run.completed_s for run in runs) - min(run.started_s for run in runs)
    busy_s = sum(run.completed_s - run.started_s for run in runs)
    return LoadFigures(
        queue_ms=float(np.nanmean(record.started_s - record.issued_s) * 1e3),
        compute_ms=busy_s / len(runs) * 1e3,
        padding_share=1 - sum(run.requests for run in runs) / executed,
        utilisation=busy_s / span_s if span_s else 1.0,
        mean_batch_size=sum(run.requests for run in first) / len(first),
        batches=len(runs),
        host_sync_ms=sum(run.host_sync_s for run in first) / len(first) * 1e3 if has_router else None,
    )


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
