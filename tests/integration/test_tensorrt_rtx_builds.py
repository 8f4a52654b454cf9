"""TensorRT-RTX builds engines on a machine without a GPU: what it builds, what it refuses, and the proof of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.engines.base import INSPECTOR_FILE, Artifact, BuildPlan, Graph, TensorSpec
from harness.engines.tensorrt import TENSORRT_RTX, builder
from harness.engines.tensorrt.flavour import TENSORRT_RTX_FLAVOUR, LocalGpu, local_gpu
from harness.system.errors import CellError
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, BatchProfile, Precision

pytest.importorskip("tensorrt_rtx", reason="needs pip install tensorrt-rtx")

DYNAMIC = BatchProfile(1, 4, 8)
STATIC = BatchProfile(4, 4, 4)
ADA, TURING = (8, 9), (7, 5)


def graph_of(path: Path) -> Graph:
    """Describe an ONNX file the way the export room does."""
    import onnx

    proto = onnx.load(str(path)).graph

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value or -1 for d in tensor.shape.dim)
        return TensorSpec(value.name, shape, {1: "float32", 10: "float16"}[tensor.elem_type])

    return Graph(path, "0" * 64, tuple(map(spec, proto.input)), tuple(map(spec, proto.output)), len(proto.node))


def plan_of(path: Path, precision: Precision = FP32, **changes) -> BuildPlan:
    plan = BuildPlan("tensorrt_rtx", graph_of(path), DYNAMIC, precision, device="cuda", compute_capability=ADA)
    return replace(plan, **changes)


def build(plan: BuildPlan, workdir: Path) -> Artifact:
    """Check and build, and hold the artifact to what is true of every one. Takes any plan: no fixture of its own."""
    workdir.mkdir(parents=True, exist_ok=True)
    TENSORRT_RTX.check(plan)
    artifact = TENSORRT_RTX.build(plan, workdir)
    engine = artifact.path / artifact.main_file
    assert engine.stat().st_size == artifact.proof["engine_bytes"] > 10_000
    assert artifact.engine_version == TENSORRT_RTX.version()
    return artifact


@pytest.fixture(scope="session")
def fp32_onnx(tmp_path_factory) -> Path:
    import torch
    from torch.export import Dim
    from torchvision.models.densenet import DenseNet

    torch.manual_seed(0)
    slim = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, bn_size=2, num_classes=10)
    path = tmp_path_factory.mktemp("onnx") / "slim.onnx"
    program = torch.onnx.export(
        slim.eval(),
        (torch.zeros(2, 3, 64, 64),),
        dynamo=True,
        opset_version=18,
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: Dim("batch", min=1, max=256)},),
        verbose=False,
    )
    program.save(str(path), external_data=False)
    return path


@pytest.fixture(scope="session")
def fp16_onnx(fp32_onnx) -> Path:
    import onnx
    from onnxconverter_common.float16 import convert_float_to_float16

    path = fp32_onnx.with_name("slim-fp16.onnx")
    onnx.save(convert_float_to_float16(onnx.load(str(fp32_onnx)), keep_io_types=True), str(path))
    return path


def test_fp32_and_fp16_build_for_ada_and_the_network_holds_the_precision_that_was_asked(fp32_onnx, fp16_onnx, tmp_path):
    full = build(plan_of(fp32_onnx), tmp_path / "fp32").proof
    half = build(plan_of(fp16_onnx, FP16), tmp_path / "fp16").proof
    assert (full["compute_layers_fp32"], full["compute_layers_fp16"]) == (21, 0)
    assert (half["compute_layers_fp32"], half["compute_layers_fp16"]) == (0, 21)
    assert half["layers_fp16"] > 60
    assert half["inputs"] == "input fp32 [-1, 3, 64, 64]"
    assert half["outputs"] == "logits fp32 [-1, 10]"
    assert full["compute_capability"] == "8.9"


def test_fp16_builds_for_turing(fp16_onnx, tmp_path):
    artifact = build(plan_of(fp16_onnx, FP16, compute_capability=TURING), tmp_path)
    assert artifact.proof["compute_capability"] == "7.5"


def test_fp32_on_turing_is_refused_in_one_line_that_names_what_would_work(fp32_onnx, tmp_path):
    with pytest.raises(CellError) as refusal:
        build(plan_of(fp32_onnx, compute_capability=TURING), tmp_path)
    text = str(refusal.value)
    assert "\n" not in text
    for part in ("tensorrt_rtx", "7.5", "fp32", "FP32 GEMM is not supported", "hw=fp16"):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_a_static_plan_leaves_no_dynamic_dimension_and_a_dynamic_one_keeps_it(fp16_onnx, tmp_path):
    static = build(plan_of(fp16_onnx, FP16, batch=STATIC), tmp_path / "s").proof
    dynamic = build(plan_of(fp16_onnx, FP16), tmp_path / "d").proof
    assert static["inputs"] == "input fp32 [4, 3, 64, 64]"
    assert static["outputs"] == "logits fp32 [4, 10]"
    assert (static["profile"], dynamic["profile"]) == ("static 4", "dynamic 1/4/8")
    assert "-1" in dynamic["inputs"]


def test_a_dynamic_batch_in_two_profiles_reaches_the_builder_as_two(fp16_onnx, tmp_path):
    ranges = (BatchProfile(1, 1, 2), BatchProfile(2, 8, 8))
    proof = build(plan_of(fp16_onnx, FP16, profiles=ranges), tmp_path / "two").proof
    assert (proof["profile"], proof["profiles"]) == ("dynamic 1/1/2, 2/8/8", 2)
    assert build(plan_of(fp16_onnx, FP16), tmp_path / "one").proof["profiles"] == 1


def test_builder_level_tiling_and_workspace_are_set_as_asked_and_read_back(fp16_onnx, tmp_path):
    asked = (("builder_level", 2), ("tiling", "moderate"), ("workspace_mb", 512))
    plan = plan_of(fp16_onnx, FP16, fusion="max", options=asked)
    proof = build(plan, tmp_path / "asked").proof
    assert (proof["builder_level"], proof["tiling_level"], proof["workspace_mb"]) == (2, "MODERATE", 512)
    by_fusion = build(replace(plan, options=()), tmp_path / "by fusion").proof
    assert (by_fusion["builder_level"], by_fusion["tiling_level"]) == (5, "FULL")


def test_where_levels_matter_fusion_held_below_its_most_is_degraded_and_at_its_most_it_is_not(fp16_onnx, tmp_path):
    flavour = replace(TENSORRT_RTX_FLAVOUR, levels_matter=True)  # as plain TensorRT's do
    for options, reasons in (((), 0), ((("builder_level", 3),), 1), ((("tiling", "fast"),), 1)):
        plan = plan_of(fp16_onnx, FP16, fusion="max", options=options)
        degraded = builder.build(flavour, plan, ADA, tmp_path).degraded
        assert len(degraded) == reasons
        assert all("fusion below its usual level, as requested: builder level" in reason for reason in degraded)


def test_bf16_is_what_every_convolution_and_product_computes_in_and_passes_between_stages(prepared):
    chip = ("engine.compute_capability=8.9", "engine.build_only=true", "arch=early_exit", "hw=bf16")
    _, cells = prepared(*chip, engine="tensorrt_rtx")
    for artifact in cells["combined"].artifacts:
        assert artifact.proof["compute_layers_bf16"] > 0
        assert artifact.proof["compute_layers_fp32"] == artifact.proof["compute_layers_fp16"] == 0
        assert not [reason for reason in artifact.degraded if "bf16" in reason]
    assert " bf16 [" in cells["combined"].artifacts[1].proof["inputs"]


@pytest.mark.parametrize(("techniques", "precision"), [("int8", "int8"), ("[fp16,int8]", "int8+fp16")])
def test_eight_bits_are_built_where_they_are_placed(techniques, precision, prepared):
    chip = ("engine.compute_capability=8.9", "engine.build_only=true", f"hw={techniques}", "hw.int8.images=4")
    _, cells = prepared(*chip, engine="tensorrt_rtx")
    (artifact,) = cells["hw"].artifacts
    assert artifact.plan.precision.name == precision
    assert artifact.proof["compute_layers_int8"] == artifact.proof["layers_in_precision"] == 11
    assert artifact.proof["layers_weighted"] == 21
    assert artifact.proof["layers_in_float"] == "1 first layer, 8 fewer than 16 channels, 1 last layer"
    assert artifact.proof["compute_layers_" + ("fp16" if "fp16" in precision else "fp32")] == 10


def test_the_survivors_of_an_early_exit_have_one_profile_whatever_the_whole_batch_has(prepared):
    profiles = "engine.profiles=[[1,2,2],[3,4,4]]"
    chip = ("engine.compute_capability=8.9", "engine.build_only=true", "arch=early_exit", "hw=[fp16,dynamic_batching]")
    _, cells = prepared(*chip, profiles, engine="tensorrt_rtx")
    whole, survivors = cells["combined"].artifacts
    assert (whole.proof["profile"], whole.proof["profiles"]) == ("dynamic 1/2/2, 3/4/4", 2)
    assert survivors.proof["profiles"] == 1


@pytest.mark.skipif(local_gpu() is not None, reason="is about a machine without a GPU")
def test_without_a_gpu_there_is_no_account_of_the_layers_and_the_proof_says_why(fp16_onnx, tmp_path):
    assert build(plan_of(fp16_onnx, FP16), tmp_path).proof["inspector"] == "none: no GPU where it was built"
    assert not (tmp_path / INSPECTOR_FILE).exists()


@pytest.mark.skipif(local_gpu() is not None, reason="is about a machine without a GPU")
def test_an_account_of_the_layers_that_fails_leaves_the_engine_as_it_is(fp16_onnx, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.engines.tensorrt.builder.local_gpu", lambda: LocalGpu("not really here", ADA))
    artifact = build(plan_of(fp16_onnx, FP16), tmp_path)
    assert "CUDA driver version is insufficient" in artifact.proof["inspector"]
    assert artifact.degraded == build(plan_of(fp16_onnx, FP16), tmp_path / "again").degraded


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_set_as_the_plan_says(fp32_onnx, tmp_path, tf32):
    assert build(plan_of(fp32_onnx, tf32=tf32), tmp_path).proof["tf32"] == int(tf32)


def test_fusion_levels_reach_the_builder_but_rtx_builds_the_same_engine_at_each_and_says_so(fp16_onnx, tmp_path):
    levels = {}
    for fusion in ("off", "default", "max"):
        plan = plan_of(fp16_onnx, FP16, batch=STATIC, fusion=fusion)
        levels[fusion] = build(plan, tmp_path / fusion)
    assert [levels[fusion].proof["builder_level"] for fusion in levels] == [0, 3, 5]
    assert levels["max"].proof["tiling_level"] == "FULL"
    contents = {(artifact.path / artifact.main_file).read_bytes() for artifact in levels.values()}
    assert len(contents) == 1  # if this fails, this version's levels matter: change the flavour's `levels_matter`
    assert "can't switch fusion off" in levels["off"].degraded[0]
    assert levels["default"].degraded == levels["max"].degraded == ()


def test_a_plan_with_a_cuda_graph_builds_an_engine_whose_memory_the_caller_owns(fp16_onnx, tmp_path):
    assert build(plan_of(fp16_onnx, FP16, cuda_graph=True), tmp_path).proof["user_allocation"] == 1


def test_an_fp32_graph_under_an_fp16_plan_is_not_relabelled(fp32_onnx, tmp_path):
    with pytest.raises(CellError, match="fp16 was requested, but none of 21"):
        build(plan_of(fp32_onnx, FP16), tmp_path)


def test_what_the_parser_refuses_is_one_line_with_the_node_and_the_op(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Wibble", ["x"], ["y"], name="wobble", domain="nowhere")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets)
    path = tmp_path / "wibble.onnx"
    onnx.save(model, str(path))
    with pytest.raises(CellError, match=r"^tensorrt_rtx can't parse wibble.onnx: node 'wobble', op Wibble: [^\n]+$"):
        build(plan_of(path), tmp_path / "out")


def test_a_file_that_is_not_onnx_is_one_line(fp32_onnx, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    plan = plan_of(fp32_onnx)
    plan = replace(plan, graph=replace(plan.graph, path=junk))
    with pytest.raises(CellError, match=r"^junk.onnx is not a usable ONNX model: [^\n]+$"):
        build(plan, tmp_path / "out")
