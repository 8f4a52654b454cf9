"""The batches of a test as arrays, and the busy share over time that follows from them."""

from __future__ import annotations

import numpy as np
import pandas

from harness.serving.records import BatchRecord, BatchRun, write_batches

RUNS = (BatchRun(1, 10.0, 10.5, 3, 4), BatchRun(2, 10.9, 11.3, 2, 4), BatchRun(1, 12.0, 13.0, 4, 4))


def test_the_busy_share_of_a_window_is_what_its_batches_cover():
    record = BatchRecord.of(RUNS, zero_s=10.0)
    np.testing.assert_allclose(record.busy_share(1.0), [0.6, 0.3, 1.0])
    np.testing.assert_allclose(record.busy_share(0.5), [1.0, 0.2, 0.6, 0.0, 1.0, 1.0])


def test_no_batch_is_no_window():
    assert BatchRecord.of((), 0.0).busy_share(1.0).shape == (0,)


def test_every_batch_is_a_row_that_names_its_test(tmp_path):
    record = BatchRecord.of(RUNS, zero_s=10.0)
    write_batches([({"cell": "baseline", "repeat": 0, "rate": 5.0}, record)] * 2, tmp_path / "batches.parquet")
    frame = pandas.read_parquet(tmp_path / "batches.parquet")
    assert len(frame) == 6
    assert set(frame["cell"]) == {"baseline"}
    assert frame["executed"].sum() == 24
