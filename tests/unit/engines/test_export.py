"""nn.Module to ONNX: the same function, in the asked precision, for any batch, with nothing of this machine in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from harness.config import ModelConfig, arch_off
from harness.engines.export import ExportRequest, export
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.arch.assembled import network
from harness.techniques.hw.fp16 import FP16

WHOLE = ExportRequest("input", (3, 64, 64), ("logits",))
HALF = ExportRequest("input", (3, 64, 64), ("logits",), FP16, fp32_io=("input", "logits"))


@pytest.fixture(scope="module")
def tiny():
    return network(ModelConfig("densenet_tiny", image_size=64, num_classes=10), arch_off())


@pytest.fixture(scope="module")
def full(tiny, cache):
    return export(tiny.module, tiny.identity.exact, WHOLE, cache)[0]


@pytest.fixture(scope="module")
def half(tiny, cache):
    return export(tiny.module, tiny.identity.exact, HALF, cache)[0]


def run(path: Path, inputs: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})


def test_onnx_computes_what_eager_computes_at_any_batch_size(tiny, full, images):
    for batch_size, seed in ((1, 5), (3, 6)):
        inputs = images(batch_size, seed)
        with torch.inference_mode():
            expected = tiny.module(torch.from_numpy(inputs)).numpy()
        (logits,) = run(full.path, inputs)
        assert logits.shape == (batch_size, 10)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_each_stage_of_an_early_exit_computes_what_eager_computes(configured, cache, images):
    config = configured("arch=early_exit")
    net = network(config.model, config.arch)
    values = images(3)
    for stage in net.stages:
        request = ExportRequest(stage.input_name, stage.input_shape, stage.output_names)
        graph, _, _ = export(stage.module, net.identity.exact, request, cache)
        with torch.inference_mode():
            expected = stage.module(torch.from_numpy(values))
        expected = expected if isinstance(expected, tuple) else (expected,)
        outputs = run(graph.path, values)
        assert len(outputs) == len(expected) == len(graph.outputs)
        for got, right in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(got, right.numpy(), atol=1e-4, rtol=0)
        values = outputs[0]


def test_the_graph_describes_itself_truly(full):
    model = onnx.load(full.path)
    assert full.nodes == len(model.graph.node)
    assert [(spec.name, spec.shape, spec.dtype) for spec in full.inputs] == [("input", (-1, 3, 64, 64), "float32")]
    assert [(spec.name, spec.shape, spec.dtype) for spec in full.outputs] == [("logits", (-1, 10), "float32")]
    onnx.checker.check_model(model, full_check=True)


def test_an_fp16_export_has_fp16_weights_and_fp32_inputs_and_outputs(half, tiny, images):
    model = onnx.load(half.path)
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(weighted) == 21  # the stem, 8 bottlenecks of 2, 3 transitions, the classifier
    assert {weights[node.input[1]] for node in weighted} == {onnx.TensorProto.FLOAT16}
    assert onnx.TensorProto.FLOAT not in weights.values()
    assert [spec.dtype for spec in (*half.inputs, *half.outputs)] == ["float32", "float32"]
    inputs = images(3)
    with torch.inference_mode():
        expected = tiny.module(torch.from_numpy(inputs)).numpy()
    (logits,) = run(half.path, inputs)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 1e-2  # rounded, so it is half precision; and no more than rounded


def test_fp16_inputs_and_outputs_where_they_are_asked_for(tiny, cache):
    asked = ExportRequest("input", (3, 64, 64), ("logits",), FP16, fp32_io=())
    graph, _, _ = export(tiny.module, tiny.identity.exact, asked, cache)
    assert [spec.dtype for spec in (*graph.inputs, *graph.outputs)] == ["float16", "float16"]


@pytest.mark.parametrize("precision", ["full", "half"])
def test_nothing_of_this_machine_is_in_the_file(precision, request, repository):
    graph = request.getfixturevalue(precision)
    model = onnx.load(graph.path)
    for tensor in model.graph.initializer:
        tensor.raw_data = b""  # among random bytes any short word turns up
    text = model.SerializeToString()
    for word in (str(repository), f"{Path.home()}/", "site-packages", ".py", "/tmp", "line "):
        assert word.encode() not in text, word
    holders = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    assert len(model.metadata_props) == 0
    assert [len(holder.metadata_props) for holder in holders] == [0] * len(holders)
    assert {holder.doc_string for holder in holders} == {""}


def test_the_second_export_is_a_hit_and_one_made_elsewhere_has_the_same_bytes(tiny, full, cache, tmp_path):
    again, seconds, hit = export(tiny.module, tiny.identity.exact, WHOLE, cache)
    assert hit
    assert again == full
    assert seconds > 0  # what making it took, whenever that was
    elsewhere, _, hit = export(tiny.module, tiny.identity.exact, WHOLE, Cache(tmp_path))
    assert not hit
    assert elsewhere.path != full.path
    assert elsewhere.path.read_bytes() == full.path.read_bytes()
    assert elsewhere.sha256 == full.sha256


def test_an_fp16_export_is_a_hit_only_with_its_fp32_export(tiny, half, full, cache):
    graph, _, hit = export(tiny.module, tiny.identity.exact, HALF, cache)
    assert hit
    assert graph.sha256 == half.sha256 != full.sha256


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of these tests alone."""
    return Cache(tmp_path_factory.mktemp("exports"))


@pytest.mark.parametrize("what", ["weights", "structure", "input", "outputs"])
def test_other_weights_structure_or_shapes_are_another_export(what, own_cache):
    """On a network of one layer, for the key: exporting it takes no time."""

    def layer(bias: float = 0.0, name: str = "one") -> nn.Module:
        module = nn.Sequential()
        module.add_module(name, nn.Conv2d(3, 2, 1))
        nn.init.constant_(module[0].weight, 0.5)
        nn.init.constant_(module[0].bias, bias)
        return module.eval()

    request = ExportRequest("input", (3, 8, 8), ("logits",))
    first, _, _ = export(layer(), "0", request, own_cache)
    module, fingerprint = layer(), "0"
    if what == "weights":
        module, fingerprint = layer(bias=1.0), "1"
    elif what == "structure":
        module = nn.Sequential(*layer(), nn.ReLU()).eval()
    elif what == "input":
        request = ExportRequest("input", (3, 9, 9), ("logits",))
    else:
        request = ExportRequest("input", (3, 8, 8), ("answers",))
    other, _, hit = export(module, fingerprint, request, own_cache)
    assert not hit
    assert other.path != first.path
    assert other.sha256 != first.sha256


def test_what_can_not_be_exported_is_one_line_and_leaves_nothing(tmp_path):
    class Undecided(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.sum() > 0:
                return images
            return -images

    with pytest.raises(CellError, match=r"^export to ONNX failed: [^\n]+$"):
        export(Undecided(), "0", ExportRequest("input", (3, 8, 8), ("logits",)), Cache(tmp_path))
    assert not list(tmp_path.rglob("*.onnx"))
