"""PyTorch eager behind the contract: the module itself, rebuilt from its recipe and only if it is the same one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import networks as models
from harness.engines import get, names
from harness.engines.eager.rebuild import rebuilt_stage
from harness.measure.runner import Runner
from harness.measure.verify import compare
from harness.networks.identity import fingerprint
from harness.system.errors import CellError, UserError
from harness.techniques.arch.recipe import Recipe, rebuild
from harness.techniques.hw.bf16 import BF16


@pytest.fixture(scope="module")
def grouped(prepared):
    """Return the cell arch=grouped under the eager reference."""
    return prepared("arch=grouped")[1]["arch"]


def test_it_computes_what_the_module_computes(grouped, images):
    inputs = images(2)
    with get("eager").load(grouped.artifacts[0], "cpu") as executable:
        executable.write_inputs({"input": inputs})
        executable.poison_outputs()
        executable.enqueue(2)
        found = executable.outputs(2)["logits"]
    with torch.inference_mode():
        expected = rebuild(grouped.recipe)(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.dtype == np.float32


def test_the_rebuilt_module_has_the_exported_weights_bit_for_bit(grouped, configured):
    assert fingerprint(rebuilt_stage(grouped.artifacts[0]).module) == json.loads(grouped.recipe)["fingerprint"]
    assert fingerprint(models.build(configured().model)) != json.loads(grouped.recipe)["fingerprint"]


def test_any_batch_up_to_its_buffers_runs(grouped, images):
    inputs = images(2)
    with get("eager").load(grouped.artifacts[0], "cpu") as executable:
        executable.write_inputs({"input": inputs})
        executable.enqueue(1)
        one = executable.outputs(1)["logits"]
        executable.enqueue()
        both = executable.outputs()["logits"]
    assert (one.shape, both.shape) == ((1, 10), (2, 10))
    np.testing.assert_allclose(one, both[:1], rtol=0, atol=1e-6)


def test_weights_that_changed_between_build_and_load_end_the_cell(prepared, configured, tmp_path):
    path = tmp_path / "weights.pt"

    def save(seed: int) -> None:
        torch.save(models.build(replace(configured().model, seed=seed)).state_dict(), path)

    save(seed=1)
    _, cells = prepared(f"model.weights={path}")
    artifact = cells["baseline"].artifacts[0]
    assert fingerprint(rebuilt_stage(artifact).module) == json.loads(cells["baseline"].recipe)["fingerprint"]
    save(seed=2)
    with pytest.raises(CellError, match="weights differ from the exported ones"):
        get("eager").load(artifact, "cpu").__enter__()


def test_weights_that_are_gone_name_the_file(prepared, configured, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(models.build(replace(configured().model, seed=3)).state_dict(), path)
    _, cells = prepared(f"model.weights={path}")
    path.unlink()
    with pytest.raises(UserError, match=r"weights\.pt: there is no such file"):
        get("eager").load(cells["baseline"].artifacts[0], "cpu").__enter__()


@pytest.mark.parametrize(("technique", "dtype", "rounding"), [("fp16", "float16", 2e-2), ("bf16", "bfloat16", 5e-2)])
def test_half_precision_on_eager_has_fp32_inputs_and_outputs(technique, dtype, rounding, prepared, images):
    _, cells = prepared(f"hw={technique}", engine="eager")
    inputs = images(2)
    with get("eager").load(cells["hw"].artifacts[0], "cpu") as executable:
        assert executable.proof["parameter_dtype"] == dtype
        executable.write_inputs({"input": inputs})
        assert executable.input_buffers()["input"].dtype == np.float32
        executable.enqueue()
        half = executable.outputs()["logits"]
    with torch.inference_mode():
        full = rebuild(cells["hw"].recipe)(torch.from_numpy(inputs)).numpy()
    error = np.abs(half - full).max() / np.abs(full).max()
    assert half.dtype == np.float32
    assert 1e-6 < error < rounding


def test_what_passes_between_two_stages_in_bf16_arrives_to_the_bit(prepared, images):
    """numpy has no bfloat16 of its own: a CPU's buffers are views of torch's memory."""
    _, cells = prepared("arch=early_exit", "hw=bf16", engine="eager")
    cell = cells["combined"]
    passed = cell.artifacts[1].plan.graph.inputs[0]
    assert passed.dtype == "bfloat16"
    load = get("eager").load
    with load(cell.artifacts[0], "cpu") as first, load(cell.artifacts[1], "cpu") as second:
        first.write_inputs({"input": images(2)})
        first.enqueue()
        features = first.outputs()[passed.name][:1]  # half of the batch goes on
        second.write_inputs({passed.name: features})
        np.testing.assert_array_equal(second.input_buffers()[passed.name], features)
        assert np.isfinite(features.astype(np.float32)).all()
        found = Runner((first, second), cell.router, 2).verify({"input": images(2)})
    compare(found, cell.expected, BF16)


def test_the_threads_of_the_plan_are_used(grouped):
    artifact = replace(grouped.artifacts[0], plan=replace(grouped.artifacts[0].plan, options=(("threads", 1),)))
    before = torch.get_num_threads()
    try:
        with get("eager").load(artifact, "cpu") as executable:
            assert executable.proof["threads"] == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_stage_that_is_not_there_is_named(grouped):
    artifact = replace(grouped.artifacts[0], plan=replace(grouped.artifacts[0].plan, stage="stage9"))
    with pytest.raises(CellError, match="no stage 'stage9'"):
        rebuilt_stage(artifact)


def test_a_recipe_is_all_of_the_artifact(grouped, configured):
    artifact = grouped.artifacts[0]
    text = (artifact.path / artifact.main_file).read_text()
    assert text == artifact.plan.recipe == grouped.recipe
    recipe = Recipe(model=configured().model, arch=configured("arch=grouped").arch)
    assert Recipe.from_json(json.dumps(json.loads(text)["recipe"])) == recipe
    assert artifact.size_mb * 1e6 == len(text)


def test_a_build_for_another_chip_is_refused(grouped):
    with pytest.raises(UserError, match="engine=tensorrt_rtx"):
        get("eager").check(replace(grouped.artifacts[0].plan, compute_capability=(8, 9)))


def test_an_unknown_engine_lists_the_known_ones():
    with pytest.raises(UserError) as refused:
        get("openvino")
    assert all(name in str(refused.value) for name in names())
