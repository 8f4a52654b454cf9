"""Roles by their names: whose column is whose, and what a cell's metrics are called."""

from __future__ import annotations

from harness.stats.roles import ROLES, prefix_of


def test_the_last_cell_of_a_quartet_has_its_metrics_without_a_prefix():
    assert [prefix_of(role) for role in ROLES] == ["baseline/", "arch/", "hw/", ""]
