"""Small graphs whose operations and bytes can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import checker, helper, numpy_helper, save


@pytest.fixture
def written(tmp_path):
    """Return a function: written(nodes, weights, input, output) -> the path of that graph in an ONNX file.

    Shapes are a sample's; the batch before them is dynamic.
    """

    def write(nodes, weights, input_shape, output_shape, dtype=np.float32):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("input", kind, ["batch", *input_shape])],
            [helper.make_tensor_value_info("output", kind, ["batch", *output_shape])],
            [numpy_helper.from_array(np.zeros(shape, dtype), name) for name, shape in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        checker.check_model(model)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        save(model, path)
        return path

    return write
