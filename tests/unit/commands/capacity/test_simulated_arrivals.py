"""A part of a fleet is served as the whole is."""

from __future__ import annotations

import pytest

from harness.commands.capacity.fleet_check import FleetPart, poisson_arrivals_s, thinned_s
from harness.serving.policy import BatchPolicy
from harness.serving.queueing import simulate


def served(arrivals_s, gpus, split, seed):
    return simulate(arrivals_s, {1: [0.01]}, BatchPolicy(1), gpus, split, seed)


@pytest.mark.parametrize("split", ["random", "round_robin"])
def test_a_few_gpus_wait_as_long_as_those_of_the_whole_fleet(split):
    rate_per_s, fleet = 80.0, 24
    whole_s = poisson_arrivals_s(rate_per_s * fleet, 120_000, 1)
    whole = served(whole_s, fleet, split, 1)
    part = FleetPart(simulated=4, fleet=fleet, split=split)
    few = served(poisson_arrivals_s(rate_per_s, 60_000, 2, part), 4, split, 2)
    thinned = served(thinned_s(whole_s, 3, part), 4, split, 3)
    for other in (few, thinned):
        assert other.busy_share == pytest.approx(whole.busy_share, rel=0.03)
        assert other.wait_s.mean() == pytest.approx(whole.wait_s.mean(), rel=0.15)
