"""int8: where Q/DQ nodes go by the rules of each engine, what they are calibrated on, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from harness.config import HarnessConfig
from harness.engines.export import ExportRequest, export, export_key
from harness.networks.inputs import one_tensor
from harness.system.cache import Cache
from harness.system.errors import CellError, UserError
from harness.techniques import hw
from harness.techniques.hw import int8
from harness.techniques.hw.int8 import INT8, INT8_AFFINE, INT8_FP16, placement
from harness.techniques.levels import Calibration, off

CALIBRATION = Calibration("minmax", None, 8)
IMAGES = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
INPUTS = {"input": IMAGES}
FORMS = {"affine": int8.affine, "symmetric": int8.symmetric, "symmetric_fp16": int8.symmetric_fp16}


class Residual(nn.Module):
    """A stem, a block whose sum skips two convolutions, one that skips by a convolution, a narrow one, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.first, self.second = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.third, self.down = nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(32, 64, 1)
        self.fourth = nn.Conv2d(64, 64, 1)
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.narrow = nn.Conv2d(64, 8, 1)
        self.hidden, self.classifier = nn.Linear(8, 32), nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(images))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = torch.relu(self.down(x) + self.fourth(torch.relu(self.third(x))))
        x = torch.relu(self.narrow(torch.relu(self.depthwise(x))))
        return self.classifier(torch.relu(self.hidden(x.mean((2, 3)))))


@pytest.fixture(scope="module")
def network():
    return Residual().eval()


@pytest.fixture(scope="module")
def graph(network, cache) -> onnx.ModelProto:
    request = ExportRequest(one_tensor("input", (3, 16, 16)).specs, ("logits",))
    return onnx.load(export(network, "residual of test_int8", request, cache)[0].path)


@pytest.fixture(scope="module")
def quantised(graph) -> Callable[[str], onnx.ModelProto]:
    """Return a function: quantised("affine") -> the graph in that form, made once."""
    made = {name: form(copy(graph), ("input", "logits"), CALIBRATION, INPUTS) for name, form in FORMS.items()}
    return made.__getitem__


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    again = onnx.ModelProto()
    again.CopyFrom(model)
    return again


def weighted(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return convolutions and products by the name of their weight's module."""
    found = {}
    for node in model.graph.node:
        if node.op_type in int8.WEIGHTED:
            names = [part for name in node.input for part in name.split(".")]
            found[next(part for part in names if part in dict(Residual().named_children()))] = node
    return found


def dequantised(model: onnx.ModelProto) -> set[str]:
    return {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}


def run(model: onnx.ModelProto, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": IMAGES})[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_graph_computes_nearly_what_the_network_computes(form, quantised, network):
    model = quantised(form)
    onnx.checker.check_model(model, full_check=True)
    with torch.inference_mode():
        expected = network(torch.from_numpy(IMAGES)).numpy()
    error = np.abs(run(model) - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
    ("form", "left"),
    [
        ("affine", {"stem": "first layer", "classifier": "last layer"}),
        ("symmetric", {"stem": "first layer", "classifier": "last layer", "narrow": "fewer than 16 channels"}),
        ("symmetric_fp16", {"stem": "first layer", "classifier": "last layer", "narrow": "fewer than 16 channels"}),
    ],
)
def test_everything_is_quantised_but_what_has_a_reason_and_the_reason_can_be_read_afterwards(form, left, quantised):
    model = quantised(form)
    nodes, ready = weighted(model), dequantised(model)
    assert {name for name, node in nodes.items() if node.input[1] not in ready} == set(left)
    assert all(node.input[0] in ready for name, node in nodes.items() if name not in left)
    reasons = placement(model, 1 if form == "affine" else 16).left
    assert {name: reasons[node.name] for name, node in nodes.items() if node.name in reasons} == left


def test_scales_of_weights_are_one_a_channel_and_of_activations_one(quantised):
    for form in FORMS:
        model = quantised(form)
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
        producers = {node.output[0]: node for node in model.graph.node}
        for name, node in weighted(model).items():
            if node.input[1] in dequantised(model):
                channels = {"first": 32, "second": 32, "hidden": 32, "narrow": 8}.get(name, 64)
                assert sizes[producers[node.input[1]].input[1]] == channels
                assert sizes[producers[node.input[0]].input[1]] == 1


def test_for_tensorrt_scales_are_symmetric_and_results_and_biases_are_left_alone(quantised):
    model = quantised("symmetric")
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantising = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert all(values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any() for node in quantising)
    convolutions = {node.output[0] for node in weighted(model).values()}
    assert not [node for node in quantising if node.input[0] in convolutions - {weighted(model)["down"].output[0]}]
    assert all(values[node.input[2]].dtype == np.float32 for node in weighted(model).values())


def test_for_tensorrt_the_branch_that_skips_is_quantised_and_the_one_that_ends_in_the_last_convolution_is_not(
    quantised,
):
    model = quantised("symmetric")
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    ready, nodes = dequantised(model), weighted(model)
    assert len(sums) == 2
    for node, main in zip(sums, ("second", "fourth"), strict=True):
        assert nodes[main].output[0] in node.input
        assert len(ready.intersection(node.input)) == 1


def test_onnxruntime_merges_it_all_into_eight_bit_kernels(quantised, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(quantised("affine").SerializeToString(), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node)
    assert (counts["QLinearConv"], counts["QLinearAdd"], counts["QGemm"]) == (7, 2, 1)


def test_beside_fp16_nothing_is_fp32_but_inputs_and_outputs(quantised):
    model = quantised("symmetric_fp16")
    assert onnx.TensorProto.FLOAT not in {tensor.data_type for tensor in model.graph.initializer}
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}


@pytest.mark.parametrize("images", [1, 3, 4, 7])
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_any_number_of_images_calibrates_by_any_method_and_nothing_is_printed(graph, images, method, capfd):
    how = Calibration(method, 99.9 if method == "percentile" else None, images)
    model = int8.affine(copy(graph), (), how, {"input": IMAGES[:images]})
    assert len(dequantised(model)) > 10
    assert capfd.readouterr() == ("", "")


def test_a_percentile_cuts_the_range_off(graph):
    def widest(percentile: float) -> float:
        model = int8.symmetric(copy(graph), (), Calibration("percentile", percentile, 8), INPUTS)
        scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        return max(float(scales[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear")

    assert widest(90.0) < widest(99.99)


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_activations_that_are_not_finite_are_named(graph, method):
    broken = copy(graph)
    first = broken.graph.node[0]
    for tensor in broken.graph.initializer:
        if tensor.name == first.input[2]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, np.inf, np.float32), tensor.name))
    with pytest.raises(CellError, match=r"not finite"):
        int8.affine(broken, (), replace(CALIBRATION, method=method, percentile=99.0), INPUTS)


def test_weights_of_zero_are_quantised_to_zero(graph):
    silent = copy(graph)
    for tensor in silent.graph.initializer:
        if tensor.name.startswith("second"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    for form in ("affine", "symmetric"):
        found = run(FORMS[form](copy(silent), (), CALIBRATION, INPUTS))
        assert np.abs(found - run(silent)).max() < 0.1 * np.abs(run(silent)).max()


def test_a_graph_without_convolutions_and_products_is_refused():
    only_relu = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        lone (float[N, 4] input) => (float[N, 4] logits) { logits = Relu(input) }""")
    with pytest.raises(CellError, match="no convolution or product"):
        int8.symmetric(only_relu, (), CALIBRATION, {"input": np.zeros((2, 4), np.float32)})


def requested(**changes) -> ExportRequest:
    return replace(
        ExportRequest(one_tensor("input", (3, 16, 16)).specs, ("logits",), INT8_AFFINE, ("input", "logits")), **changes
    )


@pytest.mark.parametrize(
    "other",
    [
        requested(calibration=Calibration("entropy", None, 8), calibrated_on="a"),
        requested(calibration=Calibration("percentile", 99.9, 8), calibrated_on="a"),
        requested(calibration=Calibration("minmax", None, 9), calibrated_on="a"),
        requested(calibration=CALIBRATION, calibrated_on="b"),
        requested(calibration=CALIBRATION, calibrated_on="a", precision=INT8),
    ],
    ids=["method", "percentile", "number of images", "images", "form"],
)
def test_another_calibration_is_another_export(network, other):
    key = export_key(network, "0", requested(calibration=CALIBRATION, calibrated_on="a"))
    assert key == export_key(network, "0", requested(calibration=CALIBRATION, calibrated_on="a"))
    assert export_key(network, "0", other) != key
    assert export_key(network, "1", requested(calibration=CALIBRATION, calibrated_on="a")) != key


def test_a_calibration_that_is_cached_is_not_done_again_and_one_that_fails_leaves_nothing(network, tmp_path):
    store, request = Cache(tmp_path), requested(calibration=CALIBRATION, calibrated_on="a")

    def interrupted() -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(network, "0", request, store, interrupted)
    assert len(list(tmp_path.rglob("*.onnx"))) == 1  # the fp32 export
    first, _, _ = export(network, "0", request, store, lambda: INPUTS)
    again, _, hit = export(network, "0", request, store, interrupted)
    assert hit and again == first


def config_of(*techniques: str, **options) -> HarnessConfig:
    config = HarnessConfig()
    for name in techniques:
        getattr(config.hw, name).enabled = True
    for name, value in options.items():
        setattr(config.hw.int8, name, value)
    return config


def test_levels_hold_the_calibration_and_the_precision_in_the_engines_form():
    class Engine:
        name = "any"
        capabilities = replace(hw_capabilities(), precisions=(INT8_AFFINE,))

    levels = hw.apply_stack(off(8), config_of("int8", method="percentile", percentile=99.0, images=5))
    assert levels.precision == INT8
    assert levels.calibration == Calibration("percentile", 99.0, 5)
    assert hw.on_engine(levels, Engine()).precision == INT8_AFFINE
    assert hw.apply_stack(off(8), config_of("int8", method="entropy")).calibration == Calibration("entropy", None, 128)
    assert hw.apply_stack(off(8), config_of("fp16", "int8", "fusion")).precision == INT8_FP16


def hw_capabilities():
    from harness.engines import get

    return get("eager").capabilities


@pytest.mark.parametrize(
    ("techniques", "engine", "says"),
    [
        (("int8",), "eager", "has no int8 .*Q/DQ nodes are put into its exported graph"),
        (("int8",), "inductor", "has no int8 .*Q/DQ nodes are put into its exported graph"),
        (("fp16", "int8"), "onnxruntime", r"has no int8\+fp16 .*emulates fp16"),
        (("bf16", "int8"), "tensorrt", "stays in fp32 or fp16"),
    ],
)
def test_what_an_engine_does_not_have_is_refused_with_the_reason(techniques, engine, says):
    from harness.engines import get

    with pytest.raises(UserError, match=says):
        hw.check_stack(config_of(*techniques), get(engine))


def test_the_engines_that_have_it():
    from harness.engines import get

    hw.check_stack(config_of("int8", "fusion"), get("onnxruntime"))
    for name in ("tensorrt", "tensorrt_rtx"):
        hw.check_stack(config_of("int8"), get(name))
        hw.check_stack(config_of("fp16", "int8", "fusion"), get(name))
