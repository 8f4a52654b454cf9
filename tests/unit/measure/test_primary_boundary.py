"""Which boundary a verdict is on: the planned one, or the wall with the reason; never one that a cell lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.config import ProtocolConfig
from harness.measure.bring_up import check_same_boundaries, common_boundaries, primary_boundary
from harness.measure.cell import Loaded
from harness.system.errors import CellError

ALL = ("device", "wall", "end_to_end")
WHOLE = Loaded(proof={}, degraded=(), kernels=None, boundaries=ALL, pid=1)
BUSY_HOST = replace(WHOLE, boundaries=ALL[1:], no_device="launching takes the host 95% of the time")


def test_a_quartet_has_the_boundaries_that_all_of_its_cells_have_in_their_order():
    assert common_boundaries({"baseline": WHOLE, "hw": WHOLE}) == ALL
    assert common_boundaries({"baseline": WHOLE, "hw": BUSY_HOST}) == ("wall", "end_to_end")
    assert common_boundaries({"baseline": BUSY_HOST}) == ("wall", "end_to_end")
    assert common_boundaries({"baseline": BUSY_HOST, "hw": WHOLE}) == ("wall", "end_to_end")


def test_the_planned_boundary_is_the_one_of_the_verdict_where_every_cell_has_it():
    assert primary_boundary("device", {"baseline": WHOLE, "hw": WHOLE}, ProtocolConfig()) == ("device", "")


def test_a_cell_without_it_moves_the_verdict_to_the_wall_and_is_named_with_its_reason():
    loaded = {"baseline": WHOLE, "hw": BUSY_HOST, "combined": replace(BUSY_HOST, no_device="no capture")}
    assert primary_boundary("device", loaded, ProtocolConfig()) == (
        "wall",
        "verdict on wall, because there is no device boundary: "
        "hw: launching takes the host 95% of the time; combined: no capture",
    )


def test_a_boundary_that_was_asked_for_by_name_is_never_replaced():
    with pytest.raises(CellError) as failure:
        primary_boundary("device", {"baseline": WHOLE, "hw": BUSY_HOST}, ProtocolConfig(primary="device"))
    assert str(failure.value) == (
        "protocol.primary=device: not every cell has it: hw: launching takes the host 95% of the time"
    )


def test_a_restart_may_have_more_boundaries_than_the_first_one_and_none_less():
    check_same_boundaries(("wall", "end_to_end"), {"baseline": WHOLE, "hw": BUSY_HOST})
    with pytest.raises(CellError, match=r"^hw: no device boundary after a restart: launching takes the host 95%"):
        check_same_boundaries(ALL, {"baseline": WHOLE, "hw": BUSY_HOST})
