"""Samples: every iteration is kept, and a block's value is images over seconds."""

from __future__ import annotations

import math

import numpy as np
import pandas
import pyarrow.parquet
import pytest

from harness.measure.cell import Slice
from harness.measure.samples import COLUMNS, Samples, Stall, stall
from harness.stats.roles import ROLES

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


def test_a_file_of_very_many_iterations_is_bounded_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.measure.samples.MOST_ROWS", 1000)
    random = np.random.default_rng(3)
    samples = Samples(("baseline", "hw"), batch_size=4)
    for block in range(4):
        for order, role in enumerate(samples.roles):
            samples.add(role, 0, block, order, Slice({"wall": list(random.uniform(1, 2, 1 + 300 * (block + 1)))}))
        samples.close_block(0)
    assert samples.kept_every == 7  # 6008 iterations
    path, visits = samples.write(tmp_path / "samples.parquet")
    table = pyarrow.parquet.read_table(path)
    assert table.schema.metadata[b"kept_every"] == b"7"
    kept = table.to_pandas()
    assert len(kept) <= 1000
    assert set(kept["milliseconds"]) <= set(samples.frame()["milliseconds"])
    assert kept.groupby(["block", "cell"]).ngroups == 8  # every visit is there
    whole = pandas.read_parquet(visits)
    speeds = (4 * whole["iterations"] / (whole["milliseconds"] / 1e3)).to_numpy().reshape(4, 2)
    np.testing.assert_allclose(speeds, samples.throughput("wall"), rtol=1e-12)
    assert samples.milliseconds("hw", "wall").size == 3004  # what is computed here is computed from all of them


def test_a_file_of_an_ordinary_size_is_alone_and_whole(samples, tmp_path):
    assert samples.write(tmp_path / "samples.parquet") == (tmp_path / "samples.parquet",)
    assert pyarrow.parquet.read_schema(tmp_path / "samples.parquet").metadata[b"kept_every"] == b"1"


def test_an_iteration_far_outside_its_neighbours_is_a_stall():
    assert stall([10.0] * 24 + [30_000.0], 10.0) == Stall(30_000.0, 10.0)
    assert stall([10.0] * 24 + [100.0], 10.0) is None  # noise, which intervals hold
    assert stall([10.0] * 2_000 + [300.0], 10.0) is None  # of a long visit it is next to nothing
    assert stall([900.0, 700.0, 800.0], 800.0) is None
    assert stall([30_000.0], math.nan) is None


@pytest.mark.parametrize("iterations", [1, 25])
def test_a_stall_is_found_by_its_visit_or_by_the_visits_before(iterations):
    samples = Samples(["baseline"], 1)
    samples.warmed_ms["baseline"] = 350.0 / iterations
    for block, longest in enumerate([30_000.0, 10.0, 30_000.0]):
        usual = [300.0 / iterations] * (iterations - 1)
        samples.add("baseline", 0, block, 0, Slice({"wall": [*usual, max(longest, 300.0 / iterations)]}))
        assert (samples.open_stall is not None) == (longest > 10)
        samples.close_block(0)
    assert samples.stalled == 2 and samples.open_stall is None
    assert samples.stall_note == "2 of 3 blocks hold an iteration that stalled"


def test_stalled_blocks_are_set_aside_only_so_often():
    samples = Samples(["baseline"], 1)
    for _ in range(3):
        assert samples.sets_aside
        samples.set_aside(Stall(30_002.0, 12.0))
    assert not samples.sets_aside and samples.discarded == 3
    assert samples.stall_note == ("3 blocks measured again: an iteration stalled (30,002 ms where 12 ms are usual)")
