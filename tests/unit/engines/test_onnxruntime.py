"""ONNX Runtime behind the contract: it computes what eager does, its levels are real, and it never hides a failure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from harness.engines import get
from harness.engines.onnxruntime import ONNXRUNTIME
from harness.engines.onnxruntime.runtime import OnnxRuntimeExecutable
from harness.measure.runner import Runner
from harness.system.errors import CellError, UserError
from harness.techniques.arch.recipe import rebuild
from harness.techniques.arch.stages import ONE_STAGE


@pytest.fixture(scope="module")
def cells(prepared):
    """Every level of the engine, built once."""
    _, fused = prepared("hw=fusion", "reference=engine")
    _, half = prepared("hw=fp16", "reference=engine")
    _, dynamic = prepared("hw=dynamic_batching", "reference=engine")
    _, compiled = prepared("hw=compiled")
    return {
        "off": fused["baseline"], "max": fused["hw"], "fp16": half["hw"],
        "dynamic": dynamic["hw"], "compiled": compiled["hw"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(cells):
    return {name: cell.artifacts[0] for name, cell in cells.items()}


def ops(artifact) -> Counter:
    return Counter(node.op_type for node in onnx.load(artifact.path / artifact.main_file).graph.node)


def outputs(artifact, inputs: np.ndarray) -> np.ndarray:
    with get("onnxruntime").load(artifact, "cpu") as executable:
        executable.write_inputs({"input": inputs})
        executable.poison_outputs()
        executable.enqueue(len(inputs))
        executable.synchronize()
        return executable.outputs(len(inputs))["logits"]


def eager(cell, inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return rebuild(cell.recipe)(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize(
    ("level", "tolerance"), [("off", 1e-5), ("compiled", 1e-5), ("max", 1e-5), ("dynamic", 1e-5), ("fp16", 1e-2)]
)
def test_every_level_computes_what_eager_computes(cells, artifacts, images, level, tolerance):
    inputs = images(2)
    expected = eager(cells[level], inputs)
    np.testing.assert_allclose(
        outputs(artifacts[level], inputs), expected, rtol=0, atol=tolerance * abs(expected).max()
    )


def test_fusion_off_keeps_every_operation_and_fusion_at_its_most_runs_fewer(artifacts):
    off, most = ops(artifacts["off"]), ops(artifacts["max"])
    # how many are left depends on the CPU: blocks of 16 channels (AVX-512) do not take what blocks of 8 do
    assert off["BatchNormalization"] > most["BatchNormalization"]
    assert off["Relu"] == 21 > most["Relu"]
    assert off["FusedConv"] == off["ReorderInput"] == 0
    reorders = most["ReorderInput"] + most["ReorderOutput"]  # layout changes around the blocked kernels
    assert reorders > 0
    assert sum(most.values()) - reorders < sum(off.values())


def test_fusion_at_its_most_runs_convolutions_in_the_blocked_layout_with_their_relu_inside(artifacts):
    def convolutions(level: str) -> list[onnx.NodeProto]:
        graph = onnx.load(artifacts[level].path / artifacts[level].main_file).graph
        return [node for node in graph.node if node.op_type == "Conv"]

    def with_relu(nodes: list[onnx.NodeProto]) -> int:
        return sum(any(a.name == "activation" and a.s == b"Relu" for a in node.attribute) for node in nodes)

    assert {node.domain for node in convolutions("off")} == {""}
    assert "com.microsoft.nchwc" in {node.domain for node in convolutions("max")}
    assert with_relu(convolutions("off")) == 0
    inside = 21 - ops(artifacts["max"])["Relu"]  # those that are no node of their own any more
    assert with_relu(convolutions("max")) == artifacts["max"].proof["activations_in_convs"] == inside
    assert artifacts["off"].proof["activations_in_convs"] == artifacts["off"].proof["blocked_layout_convs"] == 0
    assert artifacts["max"].proof["blocked_layout_convs"] > 0


def test_the_proof_of_a_level_is_what_the_file_holds(artifacts):
    for name, level in (("off", "ORT_ENABLE_BASIC"), ("compiled", "ORT_ENABLE_ALL"), ("max", "ORT_ENABLE_ALL")):
        proof, found = artifacts[name].proof, ops(artifacts[name])
        assert proof["level"] == level
        assert proof["nodes"] == sum(found.values())
        assert proof["batch_norms"] == found["BatchNormalization"]
        assert proof["reorders"] == found["ReorderInput"] + found["ReorderOutput"]
        assert proof["nodes_before"] == artifacts[name].plan.graph.nodes


def test_fp16_on_a_cpu_is_emulated_and_says_so(artifacts):
    half = artifacts["fp16"]
    (reason,) = half.degraded
    assert reason.startswith("fp16 emulated: ")
    assert "CPUExecutionProvider" in reason
    assert half.proof["precision_in_use"] == "fp32"
    assert half.proof["casts"] == ops(half)["Cast"] > 0
    assert half.proof["fp16_ops"] < half.proof["weighted_ops"] == 21
    for name in ("off", "max", "dynamic", "compiled"):
        assert artifacts[name].degraded == ()
        assert artifacts[name].proof["casts"] == 0


def test_int8_alone_has_eight_bit_kernels_and_no_other_fusion(prepared, images):
    _, cells = prepared("hw=int8", "hw.int8.images=4", "reference=engine")
    artifact, found = cells["hw"].artifacts[0], ops(cells["hw"].artifacts[0])
    assert artifact.degraded == ()
    proof = artifact.proof
    assert proof["precision_in_use"] == "int8"
    assert found["QLinearConv"] == proof["layers_in_precision"] == proof["layers_weighted"] - 2 == 19
    assert proof["layers_in_float"] == "1 first layer, 1 last layer"
    assert proof["activations_in_convs"] == proof["blocked_layout_convs"] == 0
    expected = eager(cells["hw"], images(2))
    found = outputs(artifact, images(2))
    assert 1e-4 < np.abs(found - expected).max() / np.abs(expected).max() < 0.1


def test_int8_that_the_optimiser_does_not_run_is_degraded(prepared, tmp_path, monkeypatch):
    _, cells = prepared("hw=int8", "hw.int8.images=4", "reference=engine")
    monkeypatch.setattr("harness.engines.onnxruntime.builder.EIGHT_BIT_LEVEL", "ORT_ENABLE_BASIC")
    built = ONNXRUNTIME.build(cells["hw"].artifacts[0].plan, tmp_path)
    assert built.proof["precision_in_use"] == "fp32"
    (reason,) = built.degraded
    assert reason.startswith(
        "int8 in 0 of 21 convolutions and products only; in float: 1 first layer, 1 last layer, 19 "
    )


@pytest.mark.parametrize("vnni", [True, False])
def test_a_processor_without_eight_bit_products_is_reported_and_no_sum_saturates(vnni, prepared, images, monkeypatch):
    _, cells = prepared("hw=int8", "hw.int8.images=4", "reference=engine")
    monkeypatch.setattr("harness.engines.onnxruntime.runtime.has_vnni", lambda: vnni)
    with get("onnxruntime").load(cells["hw"].artifacts[0], "cpu") as executable:
        assert executable.proof["vnni"] == vnni
        entry = executable._session.get_session_options().get_session_config_entry
        if not vnni:
            assert entry("session.x64quantprecision") == "1"
        executable.write_inputs({"input": images(2)})
        executable.enqueue(2)
        assert np.isfinite(executable.outputs(2)["logits"]).all()


def test_a_fusion_that_finds_nothing_to_fuse_says_so(artifacts, tmp_path):
    """As the optimiser does to DenseNet121 for CUDA: the same graph at every level."""
    only_relu = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        lone (float[N, 4] input) => (float[N, 4] logits) { logits = Relu(input) }""")
    onnx.save(only_relu, tmp_path / "lone.onnx")
    fused = artifacts["max"].plan
    graph = replace(fused.graph, path=tmp_path / "lone.onnx", nodes=1)
    built = ONNXRUNTIME.build(replace(fused, graph=graph), tmp_path)
    assert built.degraded == (
        "nothing fused: ORT_ENABLE_ALL left the graph of 1 node as it was on CPUExecutionProvider",
    )
    assert ONNXRUNTIME.build(replace(fused, graph=graph, fusion="off"), tmp_path).degraded == ()


def test_a_static_engine_has_its_batch_pinned_and_refuses_another(artifacts, images):
    artifact = artifacts["off"]
    graph = onnx.load(artifact.path / artifact.main_file).graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [2, 3, 64, 64]
    assert artifact.proof["batch"] == "static"
    with get("onnxruntime").load(artifact, "cpu") as executable:
        executable.write_inputs({"input": images(1)})
        with pytest.raises(CellError, match=r"batch size 1 is outside"):
            executable.enqueue(1)


def test_a_dynamic_engine_accepts_every_batch_of_its_profile(cells, artifacts, images):
    artifact = artifacts["dynamic"]
    graph = onnx.load(artifact.path / artifact.main_file).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert artifact.proof["batch"] == "dynamic"
    inputs = images(4)
    expected = eager(cells["dynamic"], inputs)
    for size in (4, 1, 3, 2):
        np.testing.assert_allclose(outputs(artifact, inputs[:size]), expected[:size], rtol=0, atol=1e-5)


def test_a_run_without_a_size_is_the_usual_batch(artifacts, images):
    with get("onnxruntime").load(artifacts["dynamic"], "cpu") as executable:
        executable.write_inputs({"input": images(2)})
        executable.poison_outputs()
        executable.enqueue()
        assert executable.outputs()["logits"].shape == (2, 10)
        assert np.isfinite(executable.outputs()["logits"]).all()
        assert np.isnan(executable.output_buffers()["logits"][2:]).all()


def test_an_output_that_is_never_written_is_noticed(artifacts, images):
    class Idle(OnnxRuntimeExecutable):
        def enqueue(self, batch_size: int | None = None) -> None:
            """Return at once, as an engine does that lost its work."""

    with Idle(artifacts["off"], "cpu") as executable:
        executable.write_inputs({"input": images(2)})
        OnnxRuntimeExecutable.enqueue(executable)  # good results lie in the buffers now
        with pytest.raises(CellError, match="20 of 20 values of 'logits' are not finite or were never written"):
            Runner((executable,), ONE_STAGE, 2).verify({"input": images(2)})


def test_two_executables_of_one_artifact_do_not_share_buffers(artifacts, images):
    load = get("onnxruntime").load
    with load(artifacts["off"], "cpu") as one, load(artifacts["off"], "cpu") as other:
        one.write_inputs({"input": images(2, seed=1)})
        other.write_inputs({"input": images(2, seed=2)})
        one.enqueue()
        other.enqueue()
        assert not np.allclose(one.outputs()["logits"], other.outputs()["logits"])


def test_outputs_are_copies_that_the_next_run_does_not_change(artifacts, images):
    with get("onnxruntime").load(artifacts["off"], "cpu") as executable:
        executable.write_inputs({"input": images(2)})
        executable.enqueue()
        kept = executable.outputs()["logits"]
        before = kept.copy()
        executable.poison_outputs()
        np.testing.assert_array_equal(kept, before)


def test_an_unknown_provider_is_refused_with_those_that_are_there(artifacts):
    plan = replace(artifacts["off"].plan, options=(("providers", "WarpExecutionProvider"), ("threads", 1)))
    with pytest.raises(UserError) as refused:
        ONNXRUNTIME.check(plan)
    assert "no WarpExecutionProvider" in str(refused.value)
    assert "CPUExecutionProvider" in str(refused.value)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_falls_back_is_an_error_and_not_another_speed(artifacts):
    asked = (("providers", "CUDAExecutionProvider,CPUExecutionProvider"), ("threads", 1))
    artifact = replace(artifacts["off"], plan=replace(artifacts["off"].plan, options=asked))
    with pytest.raises(CellError, match=r"CUDAExecutionProvider could not be initialised|could not load"):
        OnnxRuntimeExecutable(artifact, "cpu").__enter__()


def test_the_number_of_threads_is_the_one_of_the_plan(artifacts):
    plan = replace(artifacts["off"].plan, options=(("threads", 1),))
    with get("onnxruntime").load(replace(artifacts["off"], plan=plan), "cpu") as executable:
        assert executable._session.get_session_options().intra_op_num_threads == 1
        assert executable.proof["threads"] == 1
        assert executable.proof["provider"] == "CPUExecutionProvider"


def test_a_damaged_model_is_one_line(artifacts, tmp_path):
    (tmp_path / artifacts["off"].main_file).write_bytes(b"junk")
    with pytest.raises(CellError, match=r"^onnxruntime could not load: [^\n]+$"):
        get("onnxruntime").load(replace(artifacts["off"], path=tmp_path), "cpu").__enter__()


def test_a_batch_beyond_the_buffers_is_refused_instead_of_overwriting_memory(artifacts):
    artifact = artifacts["dynamic"]
    too_many = artifact.plan.batch.max_size + 1
    with ONNXRUNTIME.load(artifact, "cpu") as executable, pytest.raises(CellError, match=f"batch size {too_many} is"):
        executable.enqueue(too_many)


def test_the_version_is_that_of_the_module_whatever_other_package_is_installed(tmp_path, monkeypatch):
    """The GPU package beside the CPU one: whose files are found is not told by what is installed."""
    import onnxruntime

    other = tmp_path / "onnxruntime_gpu-0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert ONNXRUNTIME.version() == onnxruntime.__version__


def test_without_the_provider_the_reason_says_how_to_get_it(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    reason = ONNXRUNTIME.availability("cuda").run
    assert "CUDAExecutionProvider" in reason and "pip uninstall onnxruntime onnxruntime-gpu" in reason
