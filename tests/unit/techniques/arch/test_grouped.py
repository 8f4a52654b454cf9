import pytest
import torch
from torch import nn

from harness.networks.inputs import carry_inputs, image_inputs
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.anatomy import dense_layers
from harness.techniques.arch.grouped import targets


@pytest.mark.parametrize(("groups", "params_m", "gmacs"), [(2, 5.962, 2.252), (4, 4.953, 1.961), (8, 4.449, 1.816)])
def test_groups_on_the_58_bottlenecks_cost_what_they_should(densenet121, stack, groups, params_m, gmacs):
    network = arch.apply_stack(densenet121, stack(grouped={"groups": groups}))
    found = account(network, 224)
    assert (round(found.params_m, 3), round(found.gmacs, 3)) == (params_m, gmacs)
    grouped = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.groups == groups]
    assert len(grouped) == 58
    assert all(name.endswith(".conv1") for name in grouped)


def test_one_group_is_the_original(tiny, stack, images):
    assert torch.equal(arch.apply_stack(tiny, stack(grouped={"groups": 1}))(images), tiny(images))


def test_each_group_keeps_the_dense_weights_between_its_own_channels(tiny, stack):
    grouped = arch.apply_stack(tiny, stack(grouped={"groups": 4}))
    for name, layer in dense_layers(tiny).items():
        dense, thin = layer.conv1, dense_layers(grouped)[name].conv1
        channels = torch.randn(2, dense.in_channels, 3, 3)
        inside = dense.in_channels // 4
        # The dense layer with every weight between groups set to zero.
        mask = torch.block_diag(*[torch.ones(dense.out_channels // 4, inside)] * 4)[:, :, None, None]
        expected = nn.functional.conv2d(channels, dense.weight * mask)
        torch.testing.assert_close(thin(channels), expected)


def test_groups_that_do_not_divide_name_the_layer_and_what_would(densenet121, stack):
    cfg = stack(reduced_growth={"growth_rate": 24}, grouped={"groups": 4})
    with pytest.raises(UserError) as caught:
        arch.check_stack(densenet121, cfg)
    first, second = str(caught.value).splitlines()
    assert "groups=4 does not divide features.denseblock4.denselayer1.conv1" in first
    assert "386 channels in and 96 out" in first
    assert second.endswith("it would group here: 1, 2")


@pytest.mark.parametrize("groups", [0, -2])
def test_no_groups_at_all_are_refused(tiny, stack, groups):
    with pytest.raises(UserError, match="is not a valid number of groups: here it may be 1, 2, 4, 8"):
        arch.check_stack(tiny, stack(grouped={"groups": groups}))


def test_grouping_twice_is_refused(tiny, stack):
    once = arch.apply_stack(tiny, stack(grouped={"groups": 2}))
    with pytest.raises(UserError, match="already has 2 groups"):
        arch.check_stack(once, stack(grouped={"groups": 2}))


class Gate(nn.Module):
    """Squeeze-excitation of nobody's library: six channels within, which four groups do not divide."""

    def __init__(self, channels):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 6, 1), nn.Conv2d(6, channels, 1)

    def forward(self, features):
        return features * torch.sigmoid(self.expand(torch.relu(self.reduce(features.mean((2, 3), keepdim=True)))))


class Gated(nn.Module):
    """An expansion, a gate and a projection; halves the side."""

    def __init__(self, channels):
        super().__init__()
        self.expand, self.project = nn.Conv2d(channels, 32, 1), nn.Conv2d(32, channels, 1, stride=2)
        self.gate = Gate(32)

    def forward(self, features):
        return self.project(self.gate(self.expand(features)))


@pytest.mark.parametrize("side", [64, 4])  # of 4 pixels the second block sees 2, the third one
def test_the_layers_of_anybodys_squeeze_excitation_stay_dense(stack, side):
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        *(Gated(8) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()
    carry_inputs(network, image_inputs(side))
    assert list(targets(network)) == ["1.expand", "2.expand", "3.expand"]
    arch.check_stack(network, stack(grouped={"groups": 4}))
