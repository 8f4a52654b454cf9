"""What a row says of builds that time kernels: how far another one may move its factor."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.engines import get
from harness.sweep.scenarios.fixed import build_sd_of, notes_of_builds

SD = 0.0307  # between builds of a cell on TensorRT


@pytest.mark.parametrize(
    ("engines", "asked", "sd"),
    [
        (("eager", "eager", "tensorrt", "tensorrt"), (), math.sqrt(2) * SD),  # eager builds nothing
        (("tensorrt",) * 4, (), 2 * SD),
        (("inductor",) * 4, (), None),
        (("eager", "eager", "inductor", "inductor"), ("hw=fusion", "engine.max_autotune=true"), 0.0),  # not measured
        (("onnxruntime",) * 4, (), None),
    ],
)
def test_the_sd_of_a_factor_is_that_of_the_cells_that_are_tuned(configured, engines, asked, sd):
    cells = [SimpleNamespace(engine=engine) for engine in engines]
    plan = SimpleNamespace(config=configured("hw=fp16", *asked), device="cuda", cells=cells)
    assert build_sd_of(plan) == (sd if sd is None else pytest.approx(sd))


def test_nothing_is_tuned_without_a_gpu(configured) -> None:
    config = configured("arch=grouped", "hw=fp16", "reference=eager")
    assert get("tensorrt").build_spread(config, "cpu") is None
    assert get("tensorrt").build_spread(config, "cuda").sd == SD


@pytest.mark.repository
def test_what_is_known_of_tensorrts_builds_is_what_the_study_found(configured) -> None:
    with open(Path(__file__).parents[4] / "experiments/rebuilds/spread.csv") as file:
        *_, together = csv.DictReader(file)
    known = get("tensorrt").build_spread(configured("hw=fp16"), "cuda")
    assert together["cell"] == "all"
    assert known.sd == pytest.approx(float(together["sd, %"]) / 100, rel=1e-3)
    assert known.count == int(together["df"]) + 1


@pytest.mark.parametrize(
    ("sd", "builds", "said"),
    [
        (None, 1, []),
        (None, 3, []),
        (0.0, 3, []),
        (0.0, 1, ["of one build: another may choose other kernels, how far that moves the factor is not known "
                  "(protocol.builds=3 measures three)"]),
        (0.02, 1, ["of one build: others move the factor by 2.0% (sd, seen elsewhere), which the intervals hold "
                   "(protocol.builds=3 measures three)"]),
        (0.02, 3, ["of 3 builds: how far builds move the factor is pooled with what was seen elsewhere (2.0%, sd)"]),
    ],
)  # fmt: skip
def test_a_row_says_what_its_interval_holds_of_builds(sd, builds, said):
    assert notes_of_builds(sd, builds) == said
