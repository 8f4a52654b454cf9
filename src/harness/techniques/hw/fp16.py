"""fp16: half-precision weights and compute (Micikevicius et al. 2018, arXiv:1710.03740), in the graph itself.

An ONNX graph is converted by onnxconverter-common, chosen inputs and outputs stay fp32. The converter's own
`keep_io_types` keeps all of them whatever list it is given, and lets inner consumers of a kept output read the fp32
copy, which makes a graph of mixed types. So all becomes fp16 there, and the casts are put here.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.config import HarnessConfig
from harness.system.errors import UserError
from harness.techniques.levels import FP32, HALF_TOLERANCE, HasCapabilities, Levels, Precision

if TYPE_CHECKING:
    import onnx

name = "fp16"


@dataclass
class Fp16Options:
    """Half-precision weights and compute."""

    enabled: bool = False
    io: str = "fp32"  # fp32 | fp16: dtype of the engine's inputs and outputs


Options = Fp16Options
FP16 = Precision("fp16", "float16", HALF_TOLERANCE, converter=__name__)
# of ONNX's operators, the attributes that name the type of what they give
_DTYPES: Mapping[str, tuple[str, ...]] = {
    "Cast": ("to",),
    "EyeLike": ("dtype",),
    "RandomNormal": ("dtype",),
    "RandomNormalLike": ("dtype",),
    "RandomUniform": ("dtype",),
    "Bernoulli": ("dtype",),
    "HannWindow": ("output_datatype",),
    "HammingWindow": ("output_datatype",),
    "BlackmanWindow": ("output_datatype",),
}
_IO = {precision.name: precision for precision in (FP32, FP16)}


def check(options: Fp16Options, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError for an unknown `io`."""
    if options.io not in _IO:
        raise UserError(f"hw.fp16.io={options.io}: choose {' or '.join(_IO)}.")


def apply(levels: Levels, options: Fp16Options, config: HarnessConfig) -> Levels:
    """Return the levels with fp16 weights and compute; inputs and outputs stay fp32 unless `io=fp16`."""
    return replace(levels, precision=FP16, native_io=_IO[options.io] == FP16)


def convert(model: onnx.ModelProto, fp32_io: Collection[str]) -> onnx.ModelProto:
    """Return the graph in fp16, with a cast right behind each input and before each output in `fp32_io`."""
    from onnx import TensorProto, helper
    from onnxconverter_common.float16 import convert_float_to_float16

    made_float = {output for node in model.graph.node if _makes_float(node) for output in node.output}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one line for each weight too small for fp16
        half: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=False)
    graph = half.graph
    _make_half(graph, made_float)
    casts_in, casts_out = [], []
    for value in (*graph.input, *graph.output):
        if value.name not in fp32_io or value.type.tensor_type.elem_type != TensorProto.FLOAT16:  # ids and masks stay
            continue
        inner = f"{value.name}_fp16"
        _rename(graph, value.name, inner)
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        if value in graph.input:
            casts_in.append(helper.make_node("Cast", [value.name], [inner], name=f"to_{inner}", to=TensorProto.FLOAT16))
        else:
            casts_out.append(
                helper.make_node("Cast", [inner], [value.name], name=f"from_{inner}", to=TensorProto.FLOAT)
            )
    nodes = [*casts_in, *graph.node, *casts_out]  # a copy: nodes must stay in topological order
    del graph.node[:]
    graph.node.extend(nodes)
    return half


def _makes_float(node: onnx.NodeProto) -> bool:
    """Return whether a node makes fp32 because an attribute says so, whatever it is given (`(x > 0).float()`)."""
    from onnx import TensorProto

    return any(part.i == TensorProto.FLOAT for part in type_attributes(node))


def type_attributes(node: onnx.NodeProto) -> list[onnx.AttributeProto]:
    """Return the attributes of a node that name the type of what it gives."""
    return [part for part in node.attribute if part.name in _DTYPES.get(node.op_type, ())]


def _make_half(graph: onnx.GraphProto, made_float: Set[str]) -> None:
    """Let the nodes that gave `made_float` in fp32 give it in fp16: the converter changes types, and no attributes.

    Casts to fp32 that it put in itself, around what has no fp16, stay.
    """
    from onnx import TensorProto

    for node in graph.node:
        if made_float.isdisjoint(node.output):
            continue
        for part in type_attributes(node):
            part.i = TensorProto.FLOAT16


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value wherever a node reads or writes it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
