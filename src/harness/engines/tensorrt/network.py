"""ONNX file -> TensorRT network, its batch pinned or ranged, and the proof of what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.base import BuildPlan, load_graph, share_proof, share_shortfall
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.loading import tail
from harness.engines.tensorrt.profiles import profiles_of
from harness.system.errors import CellError
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.hw.int8 import INT8, INT8_FP16, placement
from harness.techniques.levels import FP32

if TYPE_CHECKING:
    import onnx

LARGEST_MESSAGE_BYTES = 2**31 - 1  # of a protobuf message
_COMPUTE = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"})  # where the work is
_SHORT = {
    "FLOAT": FP32.name,
    "HALF": FP16.name,
    "BF16": BF16.name,
    "INT8": INT8.name,
}  # TensorRT's type of a tensor -> the precision
_KINDS = (*_SHORT.values(), "other")


def parse(flavour: Flavour, builder: Any, plan: BuildPlan, logger: Any, errors: list[str]) -> tuple[Any, int]:
    """Return the network in `plan.graph.path` and how many of its concatenations were rewritten.

    Strongly typed: the precision is the graph's (TensorRT 10 needs the flag; 11 and RTX always are, and
    keep the flag as a no-op). Raises CellError with the node and the reason.
    """
    trt = flavour.module()
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, logger)
    nested, rewritten = _nested(plan.graph.path) if flavour.nests_concatenations else (0, b"")
    if rewritten:
        parsed = parser.parse(rewritten)
    else:  # from the file: weights in a file beside it are then found
        load_graph(plan.graph.path)
        parsed = parser.parse_from_file(str(plan.graph.path))
    if not parsed:
        raise CellError(f"{flavour.name} can't parse {plan.graph.path.name}: {_parser_reason(parser, errors)}")
    _channels_last(trt, network, plan)
    return network, nested


def _nested(path: Path) -> tuple[int, bytes]:
    """Return how many concatenations of a graph were rewritten, and the graph; (0, b"") if it stays as it is."""
    model = load_graph(path)
    nested = nest(model)
    return (nested, model.SerializeToString()) if nested and model.ByteSize() < LARGEST_MESSAGE_BYTES else (0, b"")


def _channels_last(trt: Any, network: Any, plan: BuildPlan) -> None:
    """Lay out feature maps as the kernels do: the shape stays [N, C, H, W], and the stride of C is 1.

    Half-precision kernels of the tensor cores work on NHWC. What passes between two stages is an engine's output and
    input, which TensorRT takes as NCHW unless configured: then every layer that reads or writes it pays a conversion
    (26 of 97 layers of DenseNet121's first stage, a third of the gain). HWC8 is NHWC where C is a multiple of 8.
    Images, of three channels, come as NHWC only where that was requested.
    """
    requested = bool(dict(plan.options).get("channels_last"))
    inputs = inputs_of(network)
    for tensor in [*inputs, *outputs_of(network)]:
        shape = tuple(tensor.shape)
        if len(shape) != 4:
            continue
        if _SHORT.get(tensor.dtype.name) == FP16.name and shape[1] % 8 == 0:
            tensor.allowed_formats = 1 << int(trt.TensorFormat.HWC8)
        elif requested and any(tensor is network_input for network_input in inputs):
            tensor.allowed_formats = 1 << int(trt.TensorFormat.HWC)


def _parser_reason(parser: Any, errors: list[str]) -> str:
    if parser.num_errors == 0:
        return tail(errors)
    error = parser.get_error(0)
    reason = " ".join(error.desc().split()).split(" [")[0][:300]  # what follows are later errors of the same node
    if not error.node_operator():
        return reason
    return f"node {error.node_name() or error.node()!r}, op {error.node_operator()}: {reason}"


def inputs_of(network: Any) -> list[Any]:
    """Return the input tensors of a network."""
    return [network.get_input(index) for index in range(network.num_inputs)]


def outputs_of(network: Any) -> list[Any]:
    """Return the output tensors of a network."""
    return [network.get_output(index) for index in range(network.num_outputs)]


def set_batch(builder: Any, network: Any, config: Any, plan: BuildPlan) -> None:
    """Pin or range the first dimension of every input; raise CellError if that is impossible.

    A static batch is written into the network's input shapes, not into a profile with three equal sizes: such a
    profile leaves -1 in every shape and the engine's interface dynamic; pinned, the network has no -1 left.
    """
    for tensor in inputs_of(network):
        if -1 in tuple(tensor.shape)[1:]:
            raise CellError(
                f"input {tensor.name} has shape {tuple(tensor.shape)}: only the first dimension may be dynamic"
            )
    batch = plan.batch
    if batch.is_static:
        for tensor in inputs_of(network):
            tensor.shape = (batch.opt_size, *tuple(tensor.shape)[1:])
        still_dynamic = [tensor.name for tensor in outputs_of(network) if -1 in tuple(tensor.shape)]
        if still_dynamic:
            raise CellError(f"outputs {still_dynamic} stay dynamic after the batch was set to {batch.opt_size}")
        return
    for ranged in profiles_of(plan):
        sizes = (ranged.min_size, ranged.opt_size, ranged.max_size)
        profile = builder.create_optimization_profile()
        for tensor in inputs_of(network):
            sample = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, *((size, *sample) for size in sizes))
        if config.add_optimization_profile(profile) < 0:
            raise CellError(f"the profile {'/'.join(map(str, sizes))} was not accepted")


def describe(network: Any) -> dict[str, str | int | float]:
    """Return layer counts by precision and the shapes and types of inputs and outputs.

    A layer's precision is the type of its first output; convolutions and matrix products are counted apart, since
    they are what precisions are about. One that reads what was dequantised is of eight bits: TensorRT merges the two.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    all_layers: Counter[str] = Counter()
    compute: Counter[str] = Counter()
    for layer in layers:
        precision = _SHORT.get(layer.get_output(0).dtype.name, "other")
        all_layers[precision] += 1
        if layer.type.name in _COMPUTE:
            compute[INT8.name if layer.get_input(0).name in dequantised else precision] += 1
    proof: dict[str, str | int | float] = {"network_layers": len(layers)}
    proof |= {f"layers_{key}": all_layers[key] for key in _KINDS}
    proof |= {f"compute_layers_{key}": compute[key] for key in _KINDS}
    proof["inputs"] = ", ".join(_tensor_text(tensor) for tensor in inputs_of(network))
    proof["outputs"] = ", ".join(_tensor_text(tensor) for tensor in outputs_of(network))
    return proof


def _tensor_text(tensor: Any) -> str:
    return f"{tensor.name} {_SHORT.get(tensor.dtype.name, tensor.dtype.name)} {list(tensor.shape)}"


def precision_shortfall(plan: BuildPlan, proof: dict[str, str | int | float]) -> tuple[str, ...]:
    """Return why the precision in the network is less than requested; raise CellError if no layer has it."""
    if plan.precision in (INT8, INT8_FP16):
        return share_shortfall(plan.precision, proof)
    name = plan.precision.name
    matching = int(proof[f"compute_layers_{name}"])
    compute = sum(int(proof[f"compute_layers_{key}"]) for key in _KINDS)
    if compute and not matching:
        raise CellError(f"{name} was requested, but none of {compute} convolutions and products is {name}")
    if matching < compute:
        return (f"{compute - matching} of {compute} convolutions and products are not {name}",)
    return ()


def eight_bits(plan: BuildPlan, described: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """Return how many convolutions and products of a network are of eight bits and why others aren't; {} elsewhere."""
    if plan.precision not in (INT8, INT8_FP16):
        return {}
    computed = int(described[f"compute_layers_{INT8.name}"])
    weighted = sum(int(described[f"compute_layers_{kind}"]) for kind in _KINDS)
    left = Counter(placement(load_graph(plan.graph.path)).left.values())
    return dict(share_proof(plan.precision, computed, weighted, left))


def nest(model: onnx.ModelProto) -> int:
    """Replace, in place, inputs of a `Concat` that an earlier one has joined already; return how many were rewritten.

    The values stay the same to the bit: joining is copying, in whatever order. Nodes stand in topological order, as
    ONNX demands, so an earlier result can be used. Graphs inside of nodes (`If`, `Loop`) are left alone.
    """
    earlier: list[tuple[tuple[int, ...], tuple[str, ...], str]] = []
    rewritten = 0
    for node in model.graph.node:
        if node.op_type != "Concat" or node.domain not in ("", "ai.onnx"):
            continue
        axis = tuple(attribute.i for attribute in node.attribute if attribute.name == "axis")
        inputs = tuple(node.input)
        begins = [
            (len(joined), result)
            for joined_axis, joined, result in earlier
            if joined_axis == axis and 1 < len(joined) < len(inputs) and inputs[: len(joined)] == joined
        ]
        earlier.append((axis, inputs, node.output[0]))
        if begins:
            count, result = max(begins)
            del node.input[:]
            node.input.extend((result, *inputs[count:]))
            rewritten += 1
    return rewritten
