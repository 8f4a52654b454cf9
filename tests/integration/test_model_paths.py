"""Networks other than a DenseNet all the way: every technique or a clear no, fp32 and fp16, built and verified."""

import pytest

from harness import networks as models
from harness.measure.bring_up import try_out
from harness.measure.progress import Silent
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import plan_quartet
from harness.system.errors import UserError
from harness.techniques import arch

TECHNIQUES = ("reduced_depth", "pruned", "grouped", "low_rank", "early_exit")
REFUSED = {("slim_networks:vit", "grouped"), ("vit_b_16", "grouped")}
SLIM = ("slim_networks:vit", "slim_networks:resnet", "slim_networks:convnext", "slim_networks:mobilenet")
NAMED = ("vit_b_16", "resnet50", "efficientnet_b0", "mobilenet_v3_large")


@pytest.fixture(autouse=True)
def _slim_networks(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tests"))


def travels(cache, model, technique, engine, hw, *overrides):
    """Prepare the quartet, and load and verify every cell; a refusal must come from the check, before any work."""
    (job,) = compose_jobs([f"model={model}", "batch_size=2", f"arch={technique}", f"hw={hw}", *overrides])
    if (model, technique) in REFUSED:
        with pytest.raises(UserError, match=f"arch={technique} has nothing to group"):
            arch.check_stack(models.build(job.config.model), job.config.arch)
        return
    plan = plan_quartet(job.config, engine, "cpu")
    cells = build_quartet(plan, cache, Silent())
    if job.config.engine.build_only:
        assert cells["combined"].engine_mb > 0
        return
    for task in list(cells.values()):
        try_out(task, plan.config.protocol)  # raises where an output is wrong


minutes = pytest.mark.minutes  # each of these is a minute on two cores: one family is enough for the quick run


@pytest.mark.parametrize("model", [SLIM[0], *(pytest.param(name, marks=minutes) for name in SLIM[1:])])
@pytest.mark.parametrize("technique", ["low_rank", pytest.param("early_exit", marks=minutes)])
def test_a_slim_network_is_verified_in_fp16_on_onnxruntime(cache, model, technique):
    travels(cache, model, technique, "onnxruntime", "[fp16,fusion]", "model.image_size=64", "model.num_classes=10")


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
    travels(cache, model, "pruned", "tensorrt_rtx", "[fp16,fusion]", *RTX, "arch.pruned.round_to=4",
            "model.image_size=64", "model.num_classes=10")  # fmt: skip


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("hw", ["fusion", "[fp16,fusion]"])
@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("model", NAMED)
def test_a_named_network_at_full_size_is_verified_on_onnxruntime(cache, model, technique, hw):
    travels(cache, model, technique, "onnxruntime", hw, "protocol.worker_timeout_s=1800")


@pytest.mark.minutes
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("hw", ["fusion", "[fp16,fusion]"])
@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("model", NAMED)
def test_a_named_network_at_full_size_builds_for_tensorrt_rtx(cache, model, technique, hw):
    pytest.importorskip("tensorrt_rtx")
    travels(cache, model, technique, "tensorrt_rtx", hw, *RTX)
