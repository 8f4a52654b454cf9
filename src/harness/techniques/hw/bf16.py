"""bf16: weights and compute of 8 bits of precision in fp32's range (Kalamkar et al. 2019, arXiv:1905.12322)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.config import HarnessConfig, Switch
from harness.system.errors import UserError
from harness.techniques.hw import fp16
from harness.techniques.levels import HALF_TOLERANCE, HasCapabilities, Levels, Precision

if TYPE_CHECKING:
    import onnx

name = "bf16"
Options = Switch
OPSET = 22  # the first whose Conv and pooling take bfloat16
# three bits less than fp16: PyTorch eager's logits of the models of conf/model, untrained, are off by 0.003 to 0.13 of
# their range, where fp16's are by 0.0004 to 0.03; their cosine is 0.991 or more
BF16 = Precision("bf16", "bfloat16", 4 * HALF_TOLERANCE, converter=__name__, compute_capability=(8, 0))


def check(options: Switch, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Raise UserError beside the other half precision."""
    if config.hw.fp16.enabled:
        raise UserError("hw=[fp16,bf16]: weights have one precision; choose one of the two.")


def apply(levels: Levels, options: Switch, config: HarnessConfig) -> Levels:
    """Return the levels with bf16 weights and compute; inputs and outputs stay fp32."""
    return replace(levels, precision=BF16)


def convert(model: onnx.ModelProto, fp32_io: Collection[str]) -> onnx.ModelProto:
    """Return the graph in bf16, with casts at the inputs and outputs in `fp32_io`.

    What becomes half precision, and where casts belong, is the same as for fp16. The weights are rounded from fp32:
    fp16 has not the range.
    """
    from onnx import TensorProto, numpy_helper, version_converter
    from onnx.helper import tensor_dtype_to_np_dtype

    newer = version_converter.convert_version(model, OPSET)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in newer.graph.initializer}
    graph = (half := fp16.convert(newer, fp32_io)).graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            exact = weights.get(tensor.name, numpy_helper.to_array(tensor))
            rounded = exact.astype(tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for part in (part for node in graph.node for part in fp16.type_attributes(node)):
        if part.i == TensorProto.FLOAT16:
            part.i = TensorProto.BFLOAT16
    return half
