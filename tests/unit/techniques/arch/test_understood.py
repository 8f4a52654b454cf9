"""At the setting that changes nothing a network computes what it did, or the technique says what it can't rebuild."""

import importlib.util

import pytest
import torch

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.shapes import copied
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.pruned import _prune

SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def _foreign(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tests"))
        yield


@pytest.fixture(scope="module")
def network():
    """Return a function: network("tied_weights"), network("timm/..."), built once."""
    import foreign_layers
    import foreign_networks

    made = {}

    def get(name):
        if name not in made:
            owner = next((one for one in (foreign_layers, foreign_networks) if hasattr(one, name)), None)
            known = name if owner is None else f"{owner.__name__}:{name}"
            made[name] = models.build(ModelConfig(known, image_size=SIDE, num_classes=10))
        return made[name]

    return get


NOTHING_CHANGED = {"grouped": {"groups": 1}, "low_rank": {"ratio": 1.0}}


def unchanged(whole, technique, stack):
    """Return `whole` after a technique at the setting that changes nothing; of an exit, all that lies behind it."""
    if technique == "pruned":
        same = copied(whole).requires_grad_(True)
        with torch.enable_grad():
            _prune(same, 0.0, {}, None)
        return same.requires_grad_(False)
    changed = arch.apply_stack(whole, stack(**{technique: NOTHING_CHANGED.get(technique, {"after_block": 1})}))
    if technique == "early_exit":
        return lambda images: changed.stage2(changed.stage1(images)[0])
    return changed


def same_function(whole, changed, images):
    before, after = whole(images), changed(images)
    return float((before - after).abs().max() / before.abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("name", "technique", "said"),
    [
        ("standardised", "grouped", "body.0 is a Standardised of foreign_layers, which does not compute what"),
        ("standardised", "pruned", "body.0 is a Standardised of foreign_layers, whose channels depend on each other"),
        ("standardised_1x1", "low_rank", "body.0 is a Standardised of foreign_layers, which does not compute what"),
        ("padded_same", "grouped", "body.0 is a PaddedSame of foreign_layers"),
        ("with_gain", "grouped", "body.0 is a WithGain that holds more than weight and bias: gain"),
        ("doubling", "low_rank", "fc is a Doubling of foreign_layers"),
        ("weight_norm", "grouped", "body.0 has a hook, which may compute its weight"),
        ("parametrized", "grouped", "body.0 computes its weight from other parameters"),
        ("hooked", "grouped", "body.0 has a hook"),
        ("own_forward", "grouped", "body.0 has a forward of its own"),
        ("tied_weights", "grouped", "body.0 shares its weight with body.2"),
        ("tied_weights", "pruned", "body.0 shares its weight with body.2"),
        ("listed", "grouped", "Listed calls a Conv2d by another reference than its name in the network"),
        ("looking", "low_rank", "Looking does more with its layers than call them: AttributeError"),
        (
            "encoded",
            "low_rank",
            r"can't factor encoder.layers.0.linear1: nn.TransformerEncoderLayer reads the weight of this layer .*\n"
            r"Use arch.low_rank.linear=false .*examples/text_encoder.py",
        ),
        ("plain_blocks", "reduced_depth", "leaves out residual blocks that keep the shape, and Small has none"),
        ("gates", "reduced_depth", "leaves out residual blocks that keep the shape, and Small has none"),
        ("summed_blocks", "reduced_depth", "leaves out residual blocks that keep the shape, and Small has none"),
        ("third_block", "reduced_depth", "Third can't be run without blocks: IndexError"),
        (
            "resnet_subclass",
            "early_exit",
            "can't cut Flipped: its parts, run in sequence, answer differently from the whole",
        ),
        (
            "vit_subclass",
            "early_exit",
            "can't cut Bypassed: its parts, run in sequence, answer differently from the whole",
        ),
        ("densenet_with_another_stem", "reduced_growth", "its features.conv0 is Conv2d"),
        ("densenet_with_another_classifier", "reduced_growth", "is not built as torchvision's"),
    ],
)
def test_what_a_technique_does_not_understand_is_refused_before_any_work(network, stack, name, technique, said):
    with pytest.raises(UserError, match=said):
        arch.check_stack(
            network(name), stack(**{technique: {"growth_rate": 4} if technique == "reduced_growth" else {}})
        )


def test_what_low_rank_says_of_pytorchs_encoder_layers_helps(network, stack):
    arch.check_stack(network("encoded"), stack(low_rank={"linear": False}))


@pytest.mark.parametrize(
    ("name", "technique"),
    [
        ("named", "grouped"),  # a subclass that computes what its class does
        ("padded_same", "pruned"),  # stays what it is, and its channels are each their own
        ("registered_thrice", "grouped"),
        ("registered_thrice", "pruned"),
        ("registered_thrice_1x1", "low_rank"),
        ("coordinates", "grouped"),
        ("normalising", "low_rank"),
        ("branching", "grouped"),
        ("weight_norm", "low_rank"),  # another layer's
        ("sized", "pruned"),
        ("resnet18", "grouped"),
        ("resnet18", "pruned"),
        ("resnet18", "early_exit"),
        ("efficientnet_b0", "grouped"),
        ("efficientnet_b0", "low_rank"),
        ("efficientnet_b0", "early_exit"),
        ("shufflenet_v2_x0_5", "grouped"),
        ("squeezenet1_1", "grouped"),
        ("regnet_y_400mf", "pruned"),
    ],
)
def test_at_the_setting_that_changes_nothing_a_network_computes_the_same(network, stack, images, name, technique):
    whole = network(name)
    assert same_function(whole, unchanged(whole, technique, stack), images)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(
    ("name", "technique", "said"),
    [
        ("timm/tf_efficientnet_lite0", "grouped", ""),  # its depthwise layers alone pad as TensorFlow does
        ("timm/tf_efficientnetv2_b0", "grouped", "blocks.1.0.conv_exp is a Conv2dSame of timm.layers.conv2d_same"),
        ("timm/tf_efficientnetv2_b0", "low_rank", ""),
        ("timm/resnetv2_50x1_bit", "grouped", "is a StdConv2d of timm.layers.std_conv"),
        ("timm/nf_resnet26", "low_rank", "that holds more than weight and bias: gain"),
        ("timm/eca_nfnet_l0", "grouped", "that holds more than weight and bias: gain"),
        ("timm/mobilenetv3_small_050", "low_rank", ""),  # its classifier is a Linear of timm's, which computes the same
        ("timm/convnext_atto", "grouped", ""),
        ("timm/resnet10t", "pruned", ""),
    ],
)
def test_timms_families_compute_the_same_or_say_what_is_not_understood(network, stack, images, name, technique, said):
    whole = network(name)
    if said:
        with pytest.raises(UserError, match=said):
            arch.check_stack(whole, stack(**{technique: NOTHING_CHANGED[technique]}))
    else:
        assert same_function(whole, unchanged(whole, technique, stack), images)


def test_a_layer_under_three_names_is_changed_under_all_of_them(network, stack):
    whole = network("registered_thrice")
    grouped = arch.apply_stack(whole, stack(grouped={"groups": 4}))
    assert {part.groups for part in (grouped.body[0], grouped.body[2], grouped.body[4])} == {4}
    assert account(grouped, SIDE).params == account(whole, SIDE).params - 32 * 32 * 9 * 3 // 4
    factored = arch.apply_stack(network("registered_thrice_1x1"), stack(low_rank={"rank": 4, "classifier": False}))
    assert (
        account(factored, SIDE).params == account(network("registered_thrice_1x1"), SIDE).params - 32 * 32 + 2 * 32 * 4
    )


def test_residual_blocks_of_ones_own_go_and_the_others_stay(network, stack):
    shallow = arch.apply_stack(network("residual_blocks"), stack(reduced_depth={"depth": 0.5}))
    assert list(shallow.body._modules) == ["0", "1"]
