"""Serving on a GPU: every size is captured, images and answers keep their order, the stream's requests are answered."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from harness.engines import get
from harness.measure.progress import Silent
from harness.serving.client import LoadTest
from harness.serving.requests import variants
from harness.serving.serving_cell import ServingCell
from harness.sweep.build import build_quartet
from harness.sweep.plan import plan_quartet
from harness.sweep.scenarios import scenario_of

torch = pytest.importorskip("torch")
pytest.importorskip("mlperf_loadgen")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU with CUDA"),
]
DEVICE = "cuda"
SERVER = ("scenario=server", "scenario.static_batch_sizes=[4]")
BATCHER = ("hw.dynamic_batching.min_batch_size=2", "hw.dynamic_batching.max_batch_size=8")
TEST = LoadTest("server", 40.0, percentile=90.0, slo_ms=500.0, min_duration_s=1.0, max_duration_s=5.0, min_queries=32)


@pytest.mark.parametrize(
    ("engine", "overrides"),
    [
        ("eager", ("hw=fp16",)),
        ("inductor", ("hw=fp16",)),
        ("inductor", ("hw=[fp16,fusion,dynamic_batching]", "arch=early_exit", *BATCHER)),
        ("tensorrt", ("hw=[fp16,fusion,dynamic_batching]", "arch=early_exit", *BATCHER, "engine.builder_level=0")),
    ],
)
def test_a_cell_serves_what_it_computes(configured, cache, engine, overrides):
    reason = get(engine).availability(DEVICE).run
    if reason is not None:
        pytest.skip(reason)
    plan = plan_quartet(configured("batch_size=4", *SERVER, *overrides), engine, DEVICE)
    quartets = [build_quartet(one, cache, Silent()) for one, _ in scenario_of(plan.config).builds(plan)]
    for role, (variant, *_) in variants(plan, quartets).items():
        with ExitStack() as stack:
            cell = ServingCell(variant.cell, stack, False)
            cell.load(None)
            served = cell.ready(variant.plan)  # raises where an answer is not its own image's
            graphs = all(artifact.plan.cuda_graph for artifact in variant.cell.artifacts)
            assert served.degraded == (), role
            assert served.captured_sizes == (variant.plan.policy.sizes() if graphs else ()), role
            found = cell.load_test((variant.plan, TEST))
            assert (found.valid, found.reason) == (True, ""), role
            assert found.record.shed == 0
            size = variant.plan.policy.max_batch_size
            assert all(ms > 0 for ms in cell.service_times((variant.plan, (size,), 5))[size]), role
