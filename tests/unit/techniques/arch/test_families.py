"""Every technique on every family: it changes the network as it says, or says what it needs."""

import pytest
import torch
from torch import nn

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.inputs import carry_inputs, image_inputs
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.anatomy import layers_that_run, output_layer
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.low_rank import Factored
from harness.techniques.arch.understood import OpenAttention, open_attention

SIDE = 64
FAMILIES = ("vit", "resnet", "convnext", "mobilenet")


@pytest.fixture(scope="module", autouse=True)
def _slim_networks(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tests"))
        yield


@pytest.fixture(scope="module")
def family():
    """Return a function: family("vit") -> that slim network, built once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = models.build(ModelConfig(f"slim_networks:{name}", image_size=SIDE, num_classes=10))
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "technique"),
    [
        (name, technique)
        for name in FAMILIES
        for technique in ("reduced_depth", "pruned", "grouped", "low_rank")
        if (name, technique) != ("vit", "grouped")  # refused: the next test
    ],
)
def test_a_technique_lessens_the_work_and_keeps_the_classes(family, stack, images, name, technique):
    options = {"grouped": {"groups": 2}, "pruned": {"ratio": 0.5, "round_to": 4}}.get(technique, {})
    whole, cfg = family(name), stack(**{technique: options})
    arch.check_stack(whole, cfg)
    changed = arch.apply_stack(whole, cfg)
    assert changed(images).shape == (7, 10)
    assert torch.isfinite(changed(images)).all()
    assert account(changed, SIDE).gmacs < account(whole, SIDE).gmacs


@pytest.mark.parametrize(
    ("name", "technique", "said"),
    [
        ("vit", "grouped", "VisionTransformer has no dense convolution but its stem's"),
        ("vit", "reduced_growth", "needs a DenseNet, found VisionTransformer"),
        ("resnet", "reduced_growth", "arch=reduced_depth is its counterpart"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(family, stack, name, technique, said):
    with pytest.raises(UserError, match=said):
        arch.check_stack(family(name), stack(**{technique: {}}))


def test_a_densenet_keeps_its_depth_and_is_told_of_growth(tiny, stack):
    with pytest.raises(UserError, match="DenseNet has none; its counterpart for a DenseNet is arch=reduced_growth"):
        arch.check_stack(tiny, stack(reduced_depth={}))


@pytest.mark.parametrize(
    ("name", "blocks", "unit"),
    [("vit", 4, "encoder layer"), ("resnet", 4, "stage"), ("convnext", 3, "stage"), ("mobilenet", 4, "block")],
)
def test_the_two_stages_of_an_exit_are_the_whole_network(family, stack, images, name, blocks, unit):
    whole = family(name)
    for after in range(1, blocks + 1):
        network = arch.apply_stack(whole, stack(early_exit={"after_block": after}))
        assert isinstance(network, EarlyExitNetwork)
        assert f" {unit} " in network.router.place
        torch.testing.assert_close(network.stage2(network.stage1(images)[0]), whole(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=rf"after_block={blocks + 1} does not exist: .*\({unit}s\)"):
        arch.check_stack(whole, stack(early_exit={"after_block": blocks + 1}))


@pytest.mark.parametrize("name", FAMILIES)
def test_at_full_rank_a_factored_network_computes_the_same(family, stack, images, name):
    whole = family(name)
    factored = arch.apply_stack(whole, stack(low_rank={"ratio": 1.0}))
    assert any(isinstance(part, Factored) for part in factored.modules())
    torch.testing.assert_close(factored(images), whole(images), rtol=1e-3, atol=1e-4)


def test_opened_attention_computes_what_the_closed_one_does(family, images):
    import copy

    opened = copy.deepcopy(family("vit"))
    open_attention(opened)
    assert sum(isinstance(part, OpenAttention) for part in opened.modules()) == 4
    torch.testing.assert_close(opened(images), family("vit")(images), rtol=1e-4, atol=1e-5)


def test_attention_and_mlps_of_a_vit_are_factored_by_choice(family, stack):
    def factored(**options):
        network = arch.apply_stack(family("vit"), stack(low_rank=options))
        return {name.rpartition(".")[2] for name, part in network.named_modules() if isinstance(part, Factored)}

    assert factored() == {"query", "key", "value", "out", "0", "3", "head"}
    assert factored(attention=False) == {"0", "3", "head"}
    assert factored(linear=False, classifier=False) == {"query", "key", "value", "out"}


def test_a_pruned_vit_loses_whole_heads_and_mlp_channels_and_keeps_its_tokens(family, stack):
    pruned = arch.apply_stack(family("vit"), stack(pruned={"ratio": 0.5, "round_to": 8}))
    for block in pruned.encoder.layers:
        assert block.self_attention.query.out_features == 24  # two heads of four, each 12 wide
        assert block.self_attention.value.out_features == 24
        assert block.mlp[0].out_features == 48
        assert block.mlp[3].out_features == 48
    assert pruned.conv_proj.out_channels == 48


def test_half_the_depth_drops_the_last_blocks_of_each_stage(family, stack):
    shallow = arch.apply_stack(family("vit"), stack(reduced_depth={}))
    assert list(shallow.encoder.layers._modules) == ["encoder_layer_0", "encoder_layer_1"]
    resnet = arch.apply_stack(family("resnet"), stack(reduced_depth={}))
    assert [len(getattr(resnet, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [1, 1, 1, 1]
    with pytest.raises(UserError, match=r"depth=0\.9 leaves nothing out"):
        arch.check_stack(family("resnet"), stack(reduced_depth={"depth": 0.9}))


class Mixer(nn.Module):
    """Adds what its layer computes to what it is given, as a ConvMixer's spatial half does."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features):
        return features + self.layer(features)


def test_where_each_stage_has_one_block_it_stays_and_no_share_is_proposed(stack):
    stages = (nn.Sequential(Mixer(8), nn.Conv2d(8, 8, 1), nn.ReLU()) for _ in range(2))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    carry_inputs(network, image_inputs(16))
    with pytest.raises(UserError, match="each stage of Sequential has one block, which stays"):
        arch.check_stack(network, stack(reduced_depth={}))
    with pytest.raises(UserError, match=r"found Sequential of torch\.nn\.modules"):  # timm has a ResNet too
        arch.check_stack(network, stack(early_exit={}))


def test_a_resnets_3x3_convolutions_are_grouped_and_its_stem_is_not(family, stack):
    grouped = arch.apply_stack(family("resnet"), stack(grouped={"groups": 4}))
    assert grouped.conv1.groups == 1
    assert {block.conv2.groups for stage in (1, 2, 3, 4) for block in getattr(grouped, f"layer{stage}")} == {4}


def test_layers_within_closed_attention_do_not_run(family):
    names = layers_that_run(family("vit"))
    assert not any("out_proj" in name for name in names)
    assert output_layer(family("vit"))[0] == "heads.head"


def test_every_technique_stacks_on_a_resnet(family, stack, images):
    cfg = stack(reduced_depth={}, pruned={"round_to": 8}, grouped={"groups": 2}, low_rank={}, early_exit={})
    arch.check_stack(family("resnet"), cfg)
    assert arch.apply_stack(family("resnet"), cfg)(images).shape == (7, 10)


def test_pruning_refuses_parameters_outside_of_layers(stack):
    swin = models.build(ModelConfig("swin_t", image_size=SIDE, num_classes=10))
    with pytest.raises(UserError, match=r"can't follow .*relative_position_bias_table of SwinTransformer"):
        arch.check_stack(swin, stack(pruned={}))
