import pytest
import torch
from torch import nn

from harness.networks.inputs import image_inputs, one_tensor
from harness.techniques import arch
from harness.techniques.arch.accounting import account, count_macs, count_macs_by_layer
from harness.techniques.arch.stages import stages


def test_densenet121_has_2_834_gmacs(densenet121):
    found = account(densenet121, 224)
    assert found.params == 7_978_856
    assert round(found.gmacs, 3) == round(found.gmacs_all_exit, 3) == round(found.gmacs_none_exit, 3) == 2.834
    assert [stage.name for stage in found.stages] == ["whole"]


def test_a_convolution_and_a_product_are_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 25, 7))
    inputs = one_tensor("input", (4, 5, 5))
    assert count_macs(model, inputs) == 25 * 6 * 2 * 9 + 150 * 7
    by_layer = count_macs_by_layer(model, inputs)
    assert (by_layer["0"], by_layer["2"]) == (25 * 6 * 2 * 9, 150 * 7)


def test_counting_needs_no_data_and_changes_nothing(tiny, images):
    before = tiny(images)
    account(tiny, 64)
    assert torch.equal(tiny(images), before)
    assert next(tiny.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("block", "cumulative", "saves_at_most"), [(1, 1.158, 0.591), (2, 1.974, 0.303), (3, 2.626, 0.073), (4, 2.833, 0.0)]
)
def test_an_exit_costs_what_comes_before_it(densenet121, stack, block, cumulative, saves_at_most):
    network = arch.apply_stack(densenet121, stack(early_exit={"after_block": block, "exit_share": 0.25}))
    found = account(network, 224)
    head = count_macs(network.stage1.head, stages(network)[1].inputs) / 1e9
    assert found.gmacs_all_exit - head == pytest.approx(cumulative, abs=0.0011)
    assert found.gmacs_none_exit == pytest.approx(2.8342 + head, abs=1e-4)
    assert found.gmacs == pytest.approx(found.gmacs_all_exit * 0.25 + found.gmacs_none_exit * 0.75)
    assert 1 - found.gmacs_all_exit / found.gmacs_none_exit == pytest.approx(saves_at_most, abs=0.0006)
    assert f"after dense block {block}, 25% of a batch leaves" in found.notes[0]
    assert f"at most {saves_at_most:.1%}" in found.notes[0]


def test_the_exit_head_counts_as_parameters(tiny, stack):
    network = arch.apply_stack(tiny, stack(early_exit={}))
    head = sum(p.numel() for p in network.stage1.head.parameters())
    assert account(network, 64).params == account(tiny, 64).params + head


def test_an_ordinary_network_is_one_stage(tiny):
    (whole,) = stages(tiny, 96)
    assert (whole.name, str(whole.inputs), whole.output_names) == ("whole", "input [B, 3, 96, 96] float32", ("logits",))
    assert stages(tiny)[0].inputs == image_inputs(64)
    assert whole.module is tiny


@pytest.mark.parametrize("block", [1, 4])
def test_an_early_exit_is_two_stages_that_fit_together(tiny, stack, block):
    network = arch.apply_stack(tiny, stack(early_exit={"after_block": block, "exit_share": 0.25}))
    first, second = stages(network)
    assert (first.name, first.inputs.names, first.output_names) == ("stage1", ("input",), ("features", "exit_logits"))
    assert (second.name, second.inputs.names, second.output_names) == ("stage2", ("features",), ("logits",))
    assert [network.router.share_reaching(number) for number in (0, 1)] == [1.0, 0.75]
    features, _ = first.module(*first.inputs.tensors(5))
    assert features.shape == second.inputs.tensors(5)[0].shape
    assert second.module(features).shape == (5, 10)
