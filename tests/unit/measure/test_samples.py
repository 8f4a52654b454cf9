"""Samples: every iteration is kept, and a block's value is images over seconds."""

from __future__ import annotations

import numpy as np
import pandas
import pyarrow.parquet
import pytest

from harness.measure.cell import ROLES, Slice
from harness.measure.samples import COLUMNS, Samples

# milliseconds of the iterations of each cell, in two blocks
BLOCKS = [
    {"baseline": [10.0, 30.0], "arch": [10.0], "hw": [4.0, 4.0, 2.0], "combined": [5.0]},
    {"baseline": [20.0], "arch": [8.0, 12.0], "hw": [5.0], "combined": [2.0, 3.0]},
]


@pytest.fixture
def samples() -> Samples:
    out = Samples(ROLES, batch_size=6)
    for block, cells in enumerate(BLOCKS):
        for order, (role, ms) in enumerate(reversed(cells.items())):
            out.add(role, restart=block, block=block, order=order, visit=Slice({"wall": ms}))
        out.close_block(restart=block)
    return out


def test_a_block_value_is_images_over_seconds_not_a_mean_of_speeds(samples):
    np.testing.assert_allclose(
        samples.throughput("wall"),
        [[6 * 2 / 0.040, 6 / 0.010, 6 * 3 / 0.010, 6 / 0.005], [6 / 0.020, 6 * 2 / 0.020, 6 / 0.005, 6 * 2 / 0.005]],
        rtol=1e-12,
    )
    assert samples.groups == [0, 1]
    assert samples.blocks == 2


def test_iterations_come_back_in_the_order_they_were_timed(samples):
    assert samples.milliseconds("baseline", "wall").tolist() == [10.0, 30.0, 20.0]
    assert samples.milliseconds("hw", "wall").tolist() == [4.0, 4.0, 2.0, 5.0]


def test_an_open_block_does_not_count(samples):
    samples.add("baseline", 1, 2, 0, Slice({"wall": [1.0]}))
    assert samples.blocks == 2
    assert samples.throughput("wall").shape == (2, 4)


def test_a_boundary_that_one_cell_lacks_has_no_quartet_but_keeps_its_samples():
    samples = Samples(("baseline", "hw"), batch_size=2)
    samples.add("baseline", 0, 0, 0, Slice({"wall": [2.0]}))
    samples.add("hw", 0, 0, 1, Slice({"wall": [1.0], "device": [0.5]}))
    samples.close_block(0)
    assert samples.boundaries == ("wall",)
    assert samples.throughput("wall").tolist() == [[1000.0, 2000.0]]
    assert samples.milliseconds("hw", "device").tolist() == [0.5]


def test_the_file_holds_every_iteration_and_can_be_read_alone(samples, tmp_path):
    path = tmp_path / "samples.parquet"
    samples.write(path)
    table = pyarrow.parquet.read_table(path)
    frame = table.to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == sum(len(ms) for cells in BLOCKS for ms in cells.values())
    pandas.testing.assert_frame_equal(frame, samples.frame())
    batch_size = int(table.schema.metadata[b"batch_size"])
    for block, cells in enumerate(BLOCKS):
        for column, role in enumerate(ROLES):
            ms = frame[(frame["cell"] == role) & (frame["block"] == block)]["milliseconds"]
            assert ms.tolist() == cells[role]
            assert batch_size * len(ms) / (ms.sum() / 1e3) == pytest.approx(samples.throughput("wall")[block, column])
