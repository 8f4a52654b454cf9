"""int8: convolutions and products of eight bits: post-training static quantisation of the exported graph (Q/DQ nodes).

Jacob et al. 2018, arXiv:1712.05877. ONNX Runtime's `quantize_static` calibrates, and inserts the nodes. NVIDIA's
ModelOpt calls a patched copy of it and adds rules of placement; its package asks for other versions of onnx and
onnxruntime than the ones here, so the rules are here instead ("Q/DQ Layer-Placement Recommendations" of
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html).

Engines differ in what they can merge, so each takes one of two forms of the same quantisation, by its line of
capabilities. `affine`: unsigned activations with zero points, results quantised too: ONNX Runtime's kernels read and
write eight bits. `symmetric`: signed, around zero; only what goes into a convolution or product is quantised, and of a
residual sum the branch that skips: TensorRT adds it before it rounds.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import HarnessConfig, at_least, one_of
from harness.config.ranges import Ranges, between
from harness.system.counts import counted
from harness.system.errors import CellError, UserError, kind_and_first_line
from harness.techniques.hw import fp16
from harness.techniques.levels import Calibration, HasCapabilities, Levels, Precision

if TYPE_CHECKING:
    import onnx

name = "int8"


@dataclass
class Int8Options:
    """Convolutions and products of eight bits, calibrated on validation images (synthetic ones without labels)."""

    enabled: bool = False
    method: str = "percentile"  # minmax | percentile | entropy: how far the activations' range reaches
    percentile: float = 99.999  # of the activations within the range, with method=percentile
    images: int = 128  # to calibrate on, at most


Options = Int8Options
RANGES: Ranges = {
    "method": one_of("minmax", "percentile", "entropy"),
    "percentile": between(50, 100, ", for example 99.99"),
    "images": at_least(1),
}

# Untrained, calibrated on noise, models of conf/model are off by 0.01 to 0.36 of their range, their cosine is 0.94 or
# more (ResNet50's; 0.97 elsewhere): the bounds find another network's answers, not a poor choice of scales
INT8 = Precision("int8", "int8", 0.5, min_cosine=0.9, min_share=0.5, converter=f"{__name__}:symmetric")
INT8_AFFINE = replace(INT8, converter=f"{__name__}:affine")
INT8_FP16 = replace(INT8, name="int8+fp16", converter=f"{__name__}:symmetric_fp16")  # fp16 where there are no 8 bits

WEIGHTED = ("Conv", "Gemm", "MatMul")
NO_WEIGHTS = "of activations alone"  # the products of an attention
_OPSET_OF_FP16_SCALES = 19
_CHUNK = 4  # images whose activations are in memory at once
_TILE = 16  # channels that TensorRT's eight-bit kernels take at once (ModelOpt's rule)


def check(options: Int8Options, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError beside bf16, and where labelled data has no image to calibrate on."""
    from harness.networks.data.labelled import LEAST_TO_CALIBRATE, opened

    if config.hw.bf16.enabled:
        raise UserError("hw=[bf16,int8]: what is not quantised stays in fp32 or fp16; use hw=int8 or hw=[fp16,int8].")
    if config.hw.fp16.enabled and config.hw.fp16.io != fp16.Options().io:
        raise UserError(f"hw.fp16.io={config.hw.fp16.io}: beside int8 inputs and outputs stay fp32; leave it out.")
    data = opened(config.data)
    there = len(data.parts["validation"]) if data is not None else LEAST_TO_CALIBRATE
    if there < LEAST_TO_CALIBRATE:
        raise UserError(
            f"hw=int8: data={config.data.name} has {counted(there, 'validation image')}; it takes at least "
            f"{LEAST_TO_CALIBRATE}, to calibrate on and to verify with: see data.split_shares."
        )


def apply(levels: Levels, options: Int8Options, config: HarnessConfig) -> Levels:
    """Return the levels with eight bits; beside fp16 that is what is computed in elsewhere."""
    percentile = options.percentile if options.method == "percentile" else None
    return replace(
        levels,
        precision=INT8_FP16 if levels.precision == fp16.FP16 else INT8,
        calibration=Calibration(options.method, percentile, options.images),
    )


def affine(
    model: onnx.ModelProto, fp32_io: Collection[str], calibration: Calibration, inputs: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return the graph quantised for ONNX Runtime; `inputs` [N, ...] are what it is calibrated on."""
    places = placement(model, min_channels=1)
    # merged with a convolution, or done in eight bits between two: many concatenations read a DenseNet's features
    follow = {"Relu", "Clip", "MaxPool", "AveragePool", "Concat"}
    names = [*places.quantised, *places.residual]
    names += [node.name for node in model.graph.node if node.op_type in follow]
    return _quantised(model, names, (*WEIGHTED, "Add", *follow), calibration, inputs, symmetric=False)


def symmetric(
    model: onnx.ModelProto, fp32_io: Collection[str], calibration: Calibration, inputs: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return the graph quantised for TensorRT; `inputs` [N, ...] are what it is calibrated on."""
    places = placement(model)
    names = [*places.quantised, *places.residual]
    out = _quantised(model, names, (*WEIGHTED, "Add"), calibration, inputs, symmetric=True)
    _undo_on_main_branch(out.graph, places.residual)
    return out


def symmetric_fp16(
    model: onnx.ModelProto, fp32_io: Collection[str], calibration: Calibration, inputs: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return the same with fp16 wherever there are no eight bits, scales included."""
    from onnx import version_converter

    eight = symmetric(model, fp32_io, calibration, inputs)
    return fp16.convert(version_converter.convert_version(eight, _OPSET_OF_FP16_SCALES), fp32_io)


@dataclass(frozen=True)
class Placement:
    """Which nodes of a graph are quantised."""

    quantised: tuple[str, ...]  # convolutions and products
    residual: Mapping[str, int]  # sums of two branches, by name: which input is the main branch, its last a convolution
    left: Mapping[str, str]  # convolutions and products that stay as they are, and why


def placement(model: onnx.ModelProto, min_channels: int = _TILE) -> Placement:
    """Return where a graph is quantised; one that is quantised already gives the same `left`."""
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    left: dict[str, str] = {}
    weighted = [node for node in graph.node if node.op_type in WEIGHTED]
    images = {value.name for value in graph.input}
    ends = _ends(graph)
    for node in weighted:
        if reason := _reason_to_leave(node, shapes, images, ends, producers, min_channels):
            left[node.name] = reason
    quantised = [node.name for node in weighted if node.name not in left]
    residual = {}
    depths = _depths(graph)
    for node in graph.node:
        if node.op_type != "Add" or any(name in shapes for name in node.input):
            continue
        convolutions = [
            place
            for place, name in enumerate(node.input)
            if name in producers and producers[name].op_type == "Conv" and producers[name].name not in left
        ]
        if convolutions:
            depth_of = {place: depths[node.input[place]] for place in convolutions}
            residual[node.name] = max(convolutions, key=depth_of.__getitem__)
    return Placement(tuple(quantised), residual, left)


def _reason_to_leave(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    images: Collection[str],
    ends: Collection[str],
    producers: Mapping[str, onnx.NodeProto],
    min_channels: int,
) -> str:
    weight = _unquantised(node.input[1], producers)
    if weight not in shapes:
        return NO_WEIGHTS
    if _unquantised(node.input[0], producers) in images and shapes[weight][1] < _TILE:
        return "first layer"  # three channels fill no tile; TensorRT 10.6 refused DenseNet121's with its pooling
    if node.name in ends:
        return "last layer"  # little work, and its rounding is the answer's
    if node.op_type != "Conv":
        return ""
    out, inner, *kernel = shapes[weight]
    if min(out, inner) >= min_channels:
        return ""
    grouped = any(part.name == "group" and part.i > 1 for part in node.attribute)
    if grouped and out % 8 == 0 and min(kernel) >= 3:
        return ""
    return f"fewer than {min_channels} channels{' a group' * grouped}"


def _unquantised(tensor: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    """Return the tensor that a Q/DQ pair, or a cast, rounds."""
    while tensor in producers and producers[tensor].op_type in ("DequantizeLinear", "QuantizeLinear", "Cast"):
        tensor = producers[tensor].input[0]
    return tensor


def _ends(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the convolutions and products whose results reach an output through no other one."""
    reached = {value.name for value in graph.output if len(value.type.tensor_type.shape.dim) == 2}  # logits
    found = set()
    for node in reversed(graph.node):
        if not reached.isdisjoint(node.output):
            if node.op_type in WEIGHTED:
                found.add(node.name)
            else:
                reached.update(node.input)
    return found


def _depths(graph: onnx.GraphProto) -> dict[str, int]:
    """Return of each tensor the most convolutions and products on a way to it."""
    depths: dict[str, int] = {}
    for node in graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0) + (node.op_type in WEIGHTED)
        depths |= dict.fromkeys(node.output, depth)
    return depths


def _quantised(
    model: onnx.ModelProto,
    names: Sequence[str],
    kinds: Sequence[str],
    calibration: Calibration,
    inputs: Mapping[str, np.ndarray],
    symmetric: bool,
) -> onnx.ModelProto:
    """Return the graph with Q/DQ nodes around the nodes `names`; raise CellError where no scale can be had."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not names:
        raise CellError("there is no convolution or product that can be quantised")
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "CalibStridedMinMax": 1,  # a chunk at a time, whatever the method: its activations are then let go
        "MatMulConstBOnly": True,
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
    }
    if calibration.percentile is not None:
        options["CalibPercentile"] = calibration.percentile
    if symmetric:
        options |= {
            "OpTypesToExcludeOutputQuantization": [*WEIGHTED, "Add"],
            "QuantizeBias": False,  # TensorRT adds it in float
            "DedicatedQDQPair": True,  # one of a sum's two is taken back
        }
    with tempfile.TemporaryDirectory(prefix="harness-int8-") as folder, _quiet():
        target = Path(folder) / "quantised.onnx"
        try:
            quantize_static(
                model, target, _Chunks(inputs), QuantFormat.QDQ,
                op_types_to_quantize=list(kinds), per_channel=True, nodes_to_quantize=list(names),
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=methods[calibration.method], extra_options=options,
            )  # fmt: skip
        except Exception as error:  # of ranges that are none: an assertion, a ValueError of numpy's
            raise CellError(f"no ranges, as where activations are not finite ({kind_and_first_line(error)})") from error
        found = onnx.load(target)
    _check_scales(found.graph)
    return found


class _Chunks:
    """The inputs as `quantize_static` reads them: a few samples at a time, of ranges that it chooses."""

    def __init__(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._inputs = inputs
        self._waiting: Iterator[int] = iter(())

    def __len__(self) -> int:
        return -(-len(next(iter(self._inputs.values()))) // _CHUNK)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give the chunks from `start_index` to before `end_index` next."""
        self._waiting = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next chunk by the input's name; None after the last."""
        chunk = next(self._waiting, None)
        if chunk is None:
            return None
        return {name: array[chunk * _CHUNK : (chunk + 1) * _CHUNK] for name, array in self._inputs.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser prints and logs from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _check_scales(graph: onnx.GraphProto) -> None:
    """Raise CellError for a scale that is not a positive number: its activations were not finite."""
    from onnx import numpy_helper

    used = {node.input[1]: node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.name in used:
            scales = numpy_helper.to_array(tensor)
            if not (np.isfinite(scales) & (scales > 0)).all():
                raise CellError(f"the activations or weights of {used[tensor.name].input[0]!r} are not finite")


def _undo_on_main_branch(graph: onnx.GraphProto, residual: Mapping[str, int]) -> None:
    """Let each sum read its main branch as the convolution gave it, and drop the Q/DQ pairs that nobody reads."""
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.name in residual:
            place = residual[node.name]
            node.input[place] = _unquantised(node.input[place], producers)
    read = {value.name for value in graph.output}
    remaining = []
    for node in reversed(graph.node):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and read.isdisjoint(node.output):
            continue
        read.update(node.input)
        remaining.append(node)
    del graph.node[:]
    graph.node.extend(reversed(remaining))
