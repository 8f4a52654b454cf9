"""nn.Module to ONNX: the same function, in the asked precision, for any batch, with nothing of this machine in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from harness import networks as models
from harness.config import ModelConfig, arch_off
from harness.engines.export import ExportRequest, export
from harness.networks.inputs import one_tensor
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.arch.assembled import network
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16

WHOLE = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",))
HALF = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",), FP16, fp32_io=("input", "logits"))


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
        request = ExportRequest(stage.inputs.specs, stage.output_names)
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


def test_a_bf16_export_has_weights_rounded_from_fp32_and_no_engine_of_ours_on_a_cpu_runs_it(tiny, full, cache):
    request = replace(HALF, precision=BF16)
    graph, _, _ = export(tiny.module, tiny.identity.exact, request, cache)
    model, exact = onnx.load(graph.path), {tensor.name: tensor for tensor in onnx.load(full.path).graph.initializer}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert {weights[node.input[1]].data_type for node in weighted} == {onnx.TensorProto.BFLOAT16}
    assert [spec.dtype for spec in (*graph.inputs, *graph.outputs)] == ["float32", "float32"]
    for name in (node.input[1] for node in weighted):
        right = onnx.numpy_helper.to_array(exact[name])
        rounded = onnx.numpy_helper.to_array(weights[name]).astype(np.float32)
        np.testing.assert_allclose(rounded, right, rtol=2**-8, atol=0)  # fp16 would have lost the smallest
    # the reason that ONNX Runtime's line of capabilities gives; when this fails, it has become wrong
    with pytest.raises(Exception, match="Could not find an implementation for Conv"):
        run(graph.path, np.zeros((1, 3, 64, 64), dtype=np.float32))


def test_fp16_inputs_and_outputs_where_they_are_asked_for(tiny, cache):
    asked = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",), FP16, fp32_io=())
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

    request = ExportRequest(one_tensor("input", (3, 8, 8)).specs, ("logits",))
    first, _, _ = export(layer(), "0", request, own_cache)
    module, fingerprint = layer(), "0"
    if what == "weights":
        module, fingerprint = layer(bias=1.0), "1"
    elif what == "structure":
        module = nn.Sequential(*layer(), nn.ReLU()).eval()
    elif what == "input":
        request = ExportRequest(one_tensor("input", (3, 9, 9)).specs, ("logits",))
    else:
        request = ExportRequest(one_tensor("input", (3, 8, 8)).specs, ("answers",))
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
        export(Undecided(), "0", ExportRequest(one_tensor("input", (3, 8, 8)).specs, ("logits",)), Cache(tmp_path))
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda images: images if images.sum() > 0 else -images, r"GuardOnDataDependentSymNode: Could not guard.*\("),
        (lambda images: torch.linalg.svdvals(images.mean(1)), r"No ONNX function found for .*_linalg_svd"),
    ],
    ids=["a branch on values", "an operator that ONNX lacks"],
)
def test_a_failed_export_says_why_on_one_line_without_escapes_and_prints_nothing(forward, said, tmp_path, capfd):
    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return forward(images)

    with pytest.raises(CellError, match=rf"^export to ONNX failed: .*{said}") as caught:
        export(Net(), "0", ExportRequest(one_tensor("input", (3, 8, 8)).specs, ("logits",)), Cache(tmp_path))
    assert str(caught.value).isprintable()  # one line, no escapes
    assert "step" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_batch_that_is_written_into_a_network_is_found_in_its_graph(tmp_path):
    """The exporter's own example has two images."""

    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.reshape(2, 3, 64).mean(2)

    with pytest.raises(CellError, match=r"^export to ONNX fixed the batch: input is \[2, 3, 8, 8\]"):
        export(Pair(), "2", ExportRequest(one_tensor("input", (3, 8, 8)).specs, ("logits",)), Cache(tmp_path))


@pytest.fixture(params=["masked", "enlarging", "eye", "coordinates"])
def casting(request, tmp_path, repository, monkeypatch):
    """Return a network that casts, and a function: graph_in(FP16) -> its graph in that precision, fp32 at its ends."""
    monkeypatch.syspath_prepend(str(repository / "tests"))
    network = models.build(ModelConfig(f"foreign_networks:{request.param}", image_size=32, num_classes=10))

    def graph_in(precision):
        specs = one_tensor("input", (3, 32, 32)).specs
        asked = ExportRequest(specs, ("logits",), precision, ("input", "logits"))
        return export(network, request.param, asked, Cache(tmp_path))[0]

    return network, graph_in


def test_casts_of_a_network_become_bf16_as_the_rest_does(casting):
    """The checker knows all types; nothing here runs the graph."""
    _, graph_in = casting
    initializers = onnx.load(graph_in(BF16).path).graph.initializer
    assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in initializers}


def test_casts_of_a_network_become_fp16_as_the_rest_does(casting):
    network, graph_in = casting
    graph = graph_in(FP16)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    answer, expected = run(graph.path, images.numpy())[0], network(images).numpy()
    assert np.abs(answer - expected).max() < 0.01 * np.abs(expected).max()


def test_a_graph_of_mixed_types_is_refused_where_it_is_made(tmp_path, monkeypatch):
    """An engine would fail to load it, and be blamed."""
    monkeypatch.setattr("harness.techniques.hw.fp16._make_half", lambda graph, made: None)
    module = nn.Sequential(Sign(), nn.Flatten(), nn.Linear(48, 10)).eval()
    request = ExportRequest(one_tensor("input", (3, 4, 4)).specs, ("logits",), FP16, ("input", "logits"))
    with pytest.raises(CellError, match=r"^conversion to fp16 gives an invalid graph: [^\n]*type"):
        export(module, "1", request, Cache(tmp_path))


class Sign(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * (images > 0).float()
