"""A model that names files outside its folder is refused before any of them is opened, wherever the name stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.engines.base import BuildPlan, Graph, TensorSpec, load_graph
from harness.engines.build import fetch_or_build
from harness.results.roofline import count
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.levels import BatchProfile

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=WEIGHT.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def saved(folder, location: str, place: str = "initializer"):
    """Write model/model.onnx whose weight lies at `location`; return its path."""
    tensor = external(location)
    product = helper.make_node("MatMul", ["input", "weight"], ["logits"])
    nodes, initializers = [product], [tensor]
    if place == "constant":
        constant = helper.make_node("Constant", [], ["weight"])
        constant.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
        nodes, initializers = [constant, product], []
    if place == "subgraph":
        yes = helper.make_graph([helper.make_node("Identity", ["weight"], ["out"])], "yes", [], [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, WEIGHT.shape)], [tensor])  # fmt: skip
        which = numpy_helper.from_array(np.array(True), "which")
        nodes = [helper.make_node("If", ["which"], ["w"], then_branch=yes, else_branch=yes),
                 helper.make_node("MatMul", ["input", "w"], ["logits"])]  # fmt: skip
        initializers = [which]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "model" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def secret(tmp_path):
    """Return a file outside the model's folder that would make fine weights."""
    path = tmp_path / "secret.bin"
    path.write_bytes(WEIGHT.tobytes())
    return path


def test_weights_beside_the_model_are_loaded(tmp_path):
    path = saved(tmp_path, "weights.bin")
    (path.parent / "weights.bin").write_bytes(WEIGHT.tobytes())
    np.testing.assert_array_equal(numpy_helper.to_array(load_graph(path).graph.initializer[0]), WEIGHT)


@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph"])
@pytest.mark.parametrize("kind", ["up", "absolute", "up from a folder", "link", "linked folder", "backslashes"])
def test_weights_outside_the_models_folder_are_refused(tmp_path, secret, kind, place):
    location = {
        "up": "../secret.bin", "absolute": str(secret), "up from a folder": "a/../../secret.bin",
        "link": "link.bin", "linked folder": "linked/secret.bin", "backslashes": "..\\secret.bin",
    }[kind]  # fmt: skip
    path = saved(tmp_path, location, place)
    (path.parent / "link.bin").symlink_to(secret)
    (path.parent / "linked").symlink_to(tmp_path)
    with pytest.raises(CellError, match=r"^model\.onnx is not a usable ONNX model: [^\n]+$"):
        load_graph(path)


def test_neither_a_build_nor_the_accounting_reads_them(tmp_path, secret):
    path = saved(tmp_path, "../secret.bin")
    spec_in, spec_out = TensorSpec("input", (-1, 3), "float32"), TensorSpec("logits", (-1, 4), "float32")
    plan = BuildPlan("onnxruntime", Graph(path, "0" * 64, (spec_in,), (spec_out,), 1), BatchProfile(1, 2, 4))
    for batch in (plan.batch, BatchProfile(2, 2, 2)):
        with pytest.raises(CellError, match="is not a usable ONNX model"):
            fetch_or_build(replace(plan, batch=batch), Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.onnx"))
    with pytest.raises(ValueError, match="is not a usable ONNX model"):
        count(path)


def test_what_is_no_model_is_one_line(tmp_path):
    (tmp_path / "junk.onnx").write_bytes(b"not a model")
    with pytest.raises(CellError, match=r"^junk\.onnx is not a usable ONNX model: [^\n]+$"):
        load_graph(tmp_path / "junk.onnx")
