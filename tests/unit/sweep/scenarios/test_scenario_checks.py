"""What can't be asked of a load scenario is refused in one line, before any work."""

from __future__ import annotations

import sys

import pytest

from harness.sweep.scenarios import scenario_of
from harness.system.errors import UserError

WRONG = {
    ("scenario=offline", "scenario.rate_per_s=5"): "scenario.rate_per_s=5.0: only scenario=server has a rate",
    ("scenario=server", "scenario.rate_per_s=-5"): "scenario.rate_per_s=-5.0: must be a positive number",
    ("scenario=server", "scenario.percentile=100"): "scenario.percentile=100.0: must be between 0 and 100",
    ("scenario=server", "scenario.min_duration_s=90"): "scenario.min_duration_s=90.0: is longer than",
    ("scenario=server", "scenario.repeats=0"): "scenario.repeats=0: must be at least 1",
    ("scenario=server", "scenario.static_batch_sizes=[0]"): "sizes are at least 1",
    ("scenario=server", "protocol.restarts=9"): "protocol.restarts=9: is more than scenario.repeats=5",
    ("scenario=server", "protocol.builds=2"): "load scenarios measure one build",
    ("scenario=server", "engine.build_only=true"): "engine.build_only=true runs nothing",
    ("hw=dynamic_batching", "hw.dynamic_batching.max_queue_delay_us=5"): "a batcher needs requests",
    ("hw=dynamic_batching", "scenario=server", "hw.dynamic_batching.preferred_batch_sizes=[9]"): "9 is outside",
}


def check(config):
    scenario_of(config).check(config)


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_a_contradiction_is_refused_with_what_was_found(configured, overrides):
    with pytest.raises(UserError) as refused:
        check(configured(*overrides))
    assert WRONG[overrides] in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_without_loadgen_the_error_says_what_to_install(configured, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(UserError, match="pip install mlcommons-loadgen"):
        check(configured("scenario=server"))
    check(configured())  # a fixed batch needs none
