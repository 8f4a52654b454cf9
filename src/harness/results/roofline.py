"""Roofline: what a cell must compute and move, the machine's maximum, and how near a measurement came.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.

Operations and bytes are counted in the ONNX graph: each weighted operation (Conv, Gemm, MatMul) is two operations a
multiply-accumulate; its activations are read once and its output written once, in the graph's precision (eight bits
between Q/DQ nodes); its weights are read once a batch. Normalisation, activation functions, pooling and concatenation
count nothing, as if each were fused into a neighbour. So the bytes are a lower bound for an engine that runs layer by
layer, which for DenseNet121 moves over four times as much. A cache, a kernel that fuses two weighted operations, or an
engine that rewrites the network (`hw.fusion.dense_blocks` pools before it convolves) can need less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engines.base import Artifact, load_graph
from harness.measure.ceilings import Ceilings
from harness.system.errors import CellError
from harness.techniques.arch.stages import Router

if TYPE_CHECKING:
    import onnx


def machine_metrics(ceilings: Ceilings | None) -> dict[str, float]:
    """Return the ceilings that were measured."""
    if ceilings is None:
        return {}
    named = {
        "machine/copy_gb_s": ceilings.copy_gb_s,
        "machine/matmul_fp32_tflops": ceilings.matmul_fp32_tflops,
        "machine/matmul_fp16_tflops": ceilings.matmul_fp16_tflops,
        "machine/matmul_bf16_tflops": ceilings.matmul_bf16_tflops,
        "machine/matmul_int8_tops": ceilings.matmul_int8_tops,
    }
    return {name: value for name, value in named.items() if value is not None}


def cell_metrics(
    artifacts: Sequence[Artifact],
    router: Router,
    batch_size: int,
    throughput_ips: float | None = None,
    ceilings: Ceilings | None = None,
) -> dict[str, float]:
    """Return what an image takes in a cell, each stage for the share that reaches it, and its share of the ceiling.

    The share is absent without a throughput (images/s) or without ceilings, all of it for a graph that can't be read or
    counted: a finished measurement is worth more than this remark on it.
    """
    shares = [router.share_reaching(number, batch_size) for number in range(len(artifacts))]
    try:
        stages = [count(artifact.plan.graph.path) for artifact in artifacts]
    except (ValueError, OSError):
        return {}
    work = per_image(zip(stages, shares, strict=True), batch_size)
    out = {"roofline/gflop_per_image": work.flop / 1e9, "roofline/mb_per_image": work.bytes / 1e6}
    if throughput_ips is not None and ceilings is not None:
        found = position(work, artifacts[0].plan.precision.dtype, throughput_ips, ceilings)
        if found is not None:
            out |= {"roofline/share": found.share, "roofline/memory_bound": float(found.memory_bound)}
    return out


@dataclass(frozen=True)
class Position:
    """How near a cell comes to its ceiling."""

    share: float  # attainable time / measured time; above 1 where caches hold what the count takes to memory
    memory_bound: bool  # the nearer ceiling is the copy's, not the matrix product's


def position(work: ImageWork, dtype: str, throughput_ips: float, ceilings: Ceilings) -> Position | None:
    """Return how near to its ceiling a cell comes that computes in `dtype` at so many images a second.

    None where no matrix product of that type was measured. The share is never clipped.
    """
    tflops = ceilings.matmul_tflops(dtype)
    if tflops is None:
        return None
    compute_s = work.flop / (tflops * 1e12)
    memory_s = work.bytes / (ceilings.copy_gb_s * 1e9)
    return Position(max(compute_s, memory_s) * throughput_ips, memory_s > compute_s)


WEIGHTED = ("Conv", "Gemm", "MatMul")
_ELEMENTWISE = ("Add", "Clip", "HardSigmoid", "HardSwish", "Mul", "Relu", "Sigmoid")  # an engine fuses them


@dataclass(frozen=True)
class StageWork:
    """What one exported graph takes."""

    flop: int  # an image; a multiply-accumulate is two
    activation_bytes: int  # an image
    weight_bytes: int  # a batch, of whatever size


@dataclass(frozen=True)
class ImageWork:
    """What a cell takes for one image, at its batch size."""

    flop: float
    bytes: float


@dataclass(frozen=True)
class _Tensor:
    dims: tuple[int, ...]  # of one image: the dynamic batch is 1
    itemsize: int

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.elements * self.itemsize


def per_image(stages: Iterable[tuple[StageWork, float]], batch_size: int) -> ImageWork:
    """Return what an image takes on average; each stage comes with the share of the batch that reaches it.

    A stage that nobody reaches is not run, so its weights are not read.
    """
    flop, moved = 0.0, 0.0
    for stage, share in stages:
        if share > 0:
            flop += share * stage.flop
            moved += share * stage.activation_bytes + stage.weight_bytes / batch_size
    return ImageWork(flop, moved)


@lru_cache(maxsize=64)  # the cells of a sweep share their exports, whose paths name their content
def count(path: Path) -> StageWork:
    """Count the graph in an ONNX file whose batch dimension is dynamic.

    Raises ValueError for a file that is not ONNX, and for a tensor whose shape is not known but for the batch.
    """
    try:
        model = load_graph(path)
    except CellError as error:
        raise ValueError(f"{path} is not an ONNX file: {error}") from error
    graph = _for_one_image(model).graph
    known = _as_stored(graph, _tensors(graph))
    activations = {value.name for value in graph.input} - {weight.name for weight in graph.initializer}
    flop, moved, weights = 0, 0, 0
    for node in graph.node:
        if not activations.intersection(node.input):
            continue  # computed from weights alone, a transposed one for instance: its output is a weight, too
        activations.update(node.output)
        if node.op_type not in WEIGHTED:
            continue
        names = [*filter(None, node.input), node.output[0]]  # an optional input that is left out is ""
        missing = [name for name in names if name not in known]
        if missing:
            raise ValueError(f"{path}: {node.op_type} {node.name!r}: the shape of {missing[0]!r} is not known")
        flop += 2 * _macs(node, known)
        moved += sum(known[name].bytes for name in names if name in activations)
        weights += sum(known[name].bytes for name in names if name not in activations)
    return StageWork(flop, moved, weights)


def _macs(node: onnx.NodeProto, known: Mapping[str, _Tensor]) -> int:
    """Return the multiply-accumulates of an operation: each element of its output is a sum over so many products."""
    first, second = known[node.input[0]].dims, known[node.input[1]].dims
    if node.op_type == "Conv":
        products = math.prod(second[1:])  # [out, in / groups, kernel ...]
    elif node.op_type == "Gemm" and any(attribute.name == "transA" and attribute.i for attribute in node.attribute):
        products = first[0]
    else:
        products = first[-1]
    return known[node.output[0]].elements * products


def _for_one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its batch pinned to one, and every shape that follows.

    Shapes the exporter wrote stay where a transformer's are computed from the batch: those it leaves unknown follow
    from the pinned one. The fp16 conversion adds casts whose outputs have none yet.
    """
    import onnx
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            make_dim_param_fixed(model.graph, dims[0].dim_param, 1)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _as_stored(graph: onnx.GraphProto, known: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """Return the tensors in as many bytes as an engine of eight bits reads and writes them in.

    It fuses Q/DQ nodes with their neighbours: what a DequantizeLinear gives is read as it was before, and what all
    readers quantise, after nothing but elementwise operations, is written as it is after.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    out = dict(known)
    for node in reversed(graph.node):  # readers before what they read
        name = node.output[0]
        if name not in known:
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in known:
            out[name] = replace(known[name], itemsize=known[node.input[0]].itemsize)
        elif name in readers:
            sizes = [_read_in(reader, known, out, known[name].itemsize) for reader in readers[name]]
            out[name] = replace(known[name], itemsize=min(known[name].itemsize, max(sizes)))
    return out


def _read_in(node: onnx.NodeProto, known: Mapping[str, _Tensor], out: Mapping[str, _Tensor], usual: int) -> int:
    """Return the bytes an element of what `node` reads needs to be written in for it."""
    found = {"QuantizeLinear": known, **dict.fromkeys(_ELEMENTWISE, out)}.get(node.op_type, {})
    return found[node.output[0]].itemsize if node.output[0] in found else usual


def _tensors(graph: onnx.GraphProto) -> dict[str, _Tensor]:
    """Return the tensors all of whose dimensions are known."""
    from onnx.helper import tensor_dtype_to_np_dtype as numpy_type

    out = {
        weight.name: _Tensor(tuple(weight.dims), numpy_type(weight.data_type).itemsize) for weight in graph.initializer
    }
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.elem_type and kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            sizes = tuple(dim.dim_value for dim in dims)
            out.setdefault(value.name, _Tensor(sizes, numpy_type(kind.elem_type).itemsize))
    return out
