"""Networks other than a DenseNet all the way: every technique or a clear no, fp32 and fp16, built and verified."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest

from harness import networks as models
from harness.measure.bring_up import try_out
from harness.measure.progress import Silent
from harness.stats.roles import ROLES
from harness.sweep.build import DesignBuilder, build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import plan_quartet
from harness.system.errors import UserError
from harness.techniques import arch

SLIM = ("slim_networks:vit", "slim_networks:resnet", "slim_networks:convnext", "slim_networks:mobilenet")
NAMED = ("vit_b_16", "resnet50", "efficientnet_b0", "mobilenet_v3_large")


@pytest.fixture(autouse=True)
def _slim_networks(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tests"))


class Design:
    """Builds and verifies quartets of one network; the cells that they share, once, as a sweep does."""

    def __init__(self, cache, model, *overrides):
        self.common = (f"model={model}", "batch_size=2", *overrides)
        self.builder = DesignBuilder([], cache, Silent())
        self.verified = []

    def cells(self, engine, *overrides, roles=ROLES):
        """Return the cells of a quartet by role; raise where one can't be built or its output is wrong."""
        (job,) = compose_jobs([*self.common, *overrides])
        plan = plan_quartet(job.config, engine, "cpu")
        plan = replace(plan, cells=tuple(cell for cell in plan.cells if cell.role in roles))
        cells = self.builder.quartet(plan)
        for cell in cells.values():
            if not (job.config.engine.build_only or any(cell is done for done in self.verified)):
                try_out(cell, plan.config.protocol)
                self.verified.append(cell)
        return cells


def precisions(cells):
    return [cell.artifacts[0].plan.precision.name for cell in cells.values()]


minutes = pytest.mark.minutes  # each of these is a minute on two cores: one family is enough for the quick run


@pytest.mark.parametrize("model", [SLIM[0], *(pytest.param(name, marks=minutes) for name in SLIM[1:])])
@pytest.mark.parametrize("technique", ["low_rank", pytest.param("early_exit", marks=minutes)])
def test_a_slim_network_is_verified_in_fp16_on_onnxruntime(cache, model, technique):
    design = Design(cache, model, "model.image_size=64", "model.num_classes=10")
    cells = design.cells("onnxruntime", f"arch={technique}", "hw=[fp16,fusion]")
    assert precisions(cells) == ["fp32", "fp32", "fp16", "fp16"]


def test_a_level_that_crashes_the_build_is_stepped_down_and_the_cell_says_so(cache):
    (job,) = compose_jobs(["model=slim_networks:vit", "model.image_size=64", "model.num_classes=10", "batch_size=2",
                           "hw=[fp16,dynamic_batching,fusion]"])  # fmt: skip
    cell = build_quartet(plan_quartet(job.config, "onnxruntime", "cpu"), cache, Silent())["hw"]
    if cell.artifacts[0].proof["level"] == "ORT_ENABLE_ALL":
        pytest.skip("this ONNX Runtime optimises an fp16 ViT of a dynamic batch without crashing (1.32 does crash)")
    assert cell.artifacts[0].proof["level"] == "ORT_ENABLE_EXTENDED"
    assert any("fusion below its maximum" in reason and "died of SIG" in reason for reason in cell.degraded)
    assert "fusion at ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL" in cell.degraded


RTX = ("engine=tensorrt_rtx", "engine.build_only=true", "engine.compute_capability=8.9")


@pytest.mark.parametrize("model", [SLIM[0], *(pytest.param(name, marks=minutes) for name in SLIM[1:])])
def test_a_slim_network_builds_for_tensorrt_rtx(cache, model):
    pytest.importorskip("tensorrt_rtx")
    design = Design(cache, model, *RTX, "model.image_size=64", "model.num_classes=10")
    overrides = ("arch=pruned", "arch.pruned.round_to=4", "hw=[fp16,fusion]")
    cells = design.cells("tensorrt_rtx", *overrides, roles=("combined",))
    assert cells["combined"].engine_mb > 0


TECHNIQUES = ("reduced_depth", "pruned", "grouped", "low_rank", "early_exit")
REFUSED = ("vit_b_16", "grouped")
# what TensorRT-RTX builds of each network; each technique is there, and DenseNet121 has all in its own file
BUILT = (("vit_b_16", "low_rank"), ("resnet50", "pruned"), ("resnet50", "grouped"), ("efficientnet_b0", "early_exit"),
         ("mobilenet_v3_large", "reduced_depth"))  # fmt: skip


@pytest.fixture(scope="module")
def design(cache):
    """Return a function: design("resnet50") -> what builds quartets of that network at full size."""
    return functools.cache(lambda model, *overrides: Design(cache, model, "protocol.worker_timeout_s=1800", *overrides))


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("model", "technique"), [pair for pair in itertools.product(NAMED, TECHNIQUES) if pair != REFUSED]
)
def test_a_named_network_at_full_size_is_verified_in_fp32_and_fp16_on_onnxruntime(design, model, technique):
    cells = design(model).cells("onnxruntime", f"arch={technique}", "hw=[fp16,fusion]", "reference=engine")
    assert precisions(cells) == ["fp32", "fp32", "fp16", "fp16"]
    assert {cell.engine for cell in cells.values()} == {"onnxruntime"}


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("model", "technique"), BUILT)
def test_a_named_network_at_full_size_is_verified_on_eager_and_with_its_fp32_fused(design, model, technique):
    cells = design(model).cells("onnxruntime", f"arch={technique}", "hw=fusion", "reference=eager")
    assert [cell.engine for cell in cells.values()] == ["eager", "eager", "onnxruntime", "onnxruntime"]
    assert precisions(cells) == ["fp32"] * 4


@pytest.mark.minutes  # at full size; a slim one is refused in test_families
def test_grouping_a_network_whose_layers_can_not_be_grouped_is_refused_before_any_work():
    model, technique = REFUSED
    (job,) = compose_jobs([f"model={model}", f"arch={technique}"])
    with pytest.raises(UserError, match=f"arch={technique} has nothing to group"):
        arch.check_stack(models.build(job.config.model), job.config.arch)


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("model", "technique"), BUILT)
def test_a_named_network_at_full_size_builds_in_fp32_and_fp16_for_tensorrt_rtx(design, model, technique):
    pytest.importorskip("tensorrt_rtx")
    cells = design(model, *RTX).cells("tensorrt_rtx", f"arch={technique}", "hw=[fp16,fusion]", "reference=engine")
    assert precisions(cells) == ["fp32", "fp32", "fp16", "fp16"]
    assert all(cell.engine == "tensorrt_rtx" and cell.engine_mb > 0 for cell in cells.values())
