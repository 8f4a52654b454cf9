"""Every engine on a network of several inputs and outputs: names, types, a dynamic batch, and what it computes."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import onnx
import pytest

from harness.engines import get
from harness.engines.export import ExportRequest, export
from harness.measure.runner import Runner
from harness.measure.verify import compare
from harness.measure.worker import timed_batches
from harness.networks.inputs import TensorSpec, one_tensor
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.arch.assembled import network
from harness.techniques.hw.fp16 import FP16

TAGGER = ("model=token_networks:tagger", "model.num_classes=5", "batch_size=3")
IDS, MASK = TensorSpec("ids", (-1, 12), "int64"), TensorSpec("mask", (-1, 12), "bool")


@pytest.fixture
def verified():
    """Return a function that loads a cell here, verifies it, and returns its runner."""
    with ExitStack() as stack:

        def load(cell) -> Runner:
            executables = tuple(stack.enter_context(get(one.plan.engine).load(one, "cpu")) for one in cell.artifacts)
            runner = Runner(executables, cell.router, cell.batch_size)
            compare(runner.verify(cell.expected.inputs), cell.expected, cell.artifacts[0].plan.arithmetic)
            return runner

        yield load


@pytest.mark.parametrize(
    "hw",
    ["fp16", "fusion", "[fp16,fusion]", "[fp16,dynamic_batching]", pytest.param("compiled", marks=pytest.mark.slow)],
)
def test_onnxruntime_computes_it_in_all_four_cells(prepared, verified, hw):
    _, cells = prepared(*TAGGER, "arch=low_rank", f"hw={hw}")
    for cell in cells.values():
        assert set(cell.expected.heads) == {"scores", "tokens"}
        runner = verified(cell)
        assert {name: result.shape for name, result in runner.results.items()} == {
            "scores": (3, 5),
            "tokens": (3, 12, 32),
        }


def test_half_precision_leaves_what_counts_and_chooses_as_it_is(prepared, verified):
    _, cells = prepared(*TAGGER, "hw=fp16", "hw.fp16.io=fp16")
    (artifact,) = cells["hw"].artifacts
    assert artifact.plan.graph.inputs == (IDS, MASK)
    assert [spec.dtype for spec in artifact.plan.graph.outputs] == ["float16", "float16"]
    verified(cells["hw"])


def test_eager_runs_it_in_half_precision(prepared, verified):
    verified(prepared(*TAGGER, "hw=fp16", engine="eager")[1]["hw"])


@pytest.mark.minutes  # Inductor's compiler
@pytest.mark.parametrize("model", ["tagger", "scorer"])
def test_inductor_compiles_it_for_any_batch(prepared, verified, model):
    overrides = (f"model=token_networks:{model}", "model.num_classes=5", "batch_size=3")
    _, cells = prepared(*overrides, "hw=[fp16,dynamic_batching,fusion]", engine="inductor")
    runner = verified(cells["hw"])
    before = {name: result.copy() for name, result in runner.results.items()}
    runner.write({name: array[::-1].copy() for name, array in cells["hw"].expected.inputs.items()})
    runner.launch()
    for name, result in runner.results.items():
        np.testing.assert_allclose(result[::-1], before[name], atol=2e-2)


def test_a_cell_is_timed_with_what_inputs_makes_and_verified_with_other_values(prepared):
    _, cells = prepared(*TAGGER, "hw=fusion")
    cell = cells["hw"]
    (timed,) = timed_batches(cell, cell.artifacts[0].plan.graph.inputs)
    for spec in (IDS, MASK):
        assert timed[spec.name].dtype == cell.expected.inputs[spec.name].dtype == np.dtype(spec.dtype)
        assert timed[spec.name].shape == cell.expected.inputs[spec.name].shape == (3, 12)
        assert not np.array_equal(timed[spec.name], cell.expected.inputs[spec.name])


def test_an_export_has_the_names_and_one_dynamic_batch_for_all(configured, cache):
    config = configured(*TAGGER)
    net = network(config.model, config.arch)
    (stage,) = net.stages
    request = ExportRequest(stage.inputs.specs, stage.output_names, by_name=True)
    graph = export(stage.module, net.identity.exact, request, cache)[0]
    assert graph.inputs == (IDS, MASK)
    assert [spec.name for spec in graph.outputs] == ["scores", "tokens"]
    values = (*onnx.load(graph.path).graph.input, *onnx.load(graph.path).graph.output)
    assert len({value.type.tensor_type.shape.dim[0].dim_param for value in values}) == 1


def test_an_input_that_is_not_there_in_the_graph_is_an_error(tmp_path):
    from torch import nn

    class Deaf(nn.Module):
        def forward(self, images, *others):
            return images * 2

    specs = (*one_tensor("input", (3,)).specs, *one_tensor("other", (3,)).specs)
    graph, _, _ = export(Deaf(), "0", ExportRequest(specs, ("logits",)), Cache(tmp_path))
    assert [spec.name for spec in graph.inputs] == ["input", "other"]
    with pytest.raises(CellError, match="export to ONNX failed"):
        export(Deaf(), "1", ExportRequest((), ("logits",)), Cache(tmp_path))
    assert FP16.dtype == "float16"
