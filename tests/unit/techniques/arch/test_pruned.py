import pytest
import torch

from harness.networks.identity import fingerprint
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.anatomy import dense_layers
from harness.techniques.arch.options import PrunedOptions
from harness.techniques.arch.pruned import TOLERANCE, apply, check, remaining


@pytest.mark.minutes  # at full size
@pytest.mark.parametrize(("round_to", "params_m", "gmacs"), [(None, 4.074, 1.383), (8, 3.312, 1.076)])
def test_ratio_0_3_costs_what_it_should(densenet121, round_to, params_m, gmacs):
    pruned = apply(densenet121, PrunedOptions(ratio=0.3, round_to=round_to))
    found = account(pruned, 224)
    assert (round(found.params_m, 3), round(found.gmacs, 3)) == (params_m, gmacs)
    assert pruned.classifier.out_features == 1000


@pytest.mark.minutes  # at full size
def test_a_target_is_met_within_2_percent_although_rounding_is_coarse(densenet121):
    # With one ratio for all layers, round_to=8 jumps from 1.617 to 1.076 GMACs.
    found = account(apply(densenet121, PrunedOptions(target_gmacs=1.5, round_to=8)), 224)
    assert found.gmacs == pytest.approx(1.5, rel=TOLERANCE)


@pytest.mark.parametrize("target_share", [0.5, 0.9])
def test_a_target_overrides_the_ratio(tiny, target_share):
    whole = account(tiny, 64).gmacs
    pruned = apply(tiny, PrunedOptions(ratio=0.99, target_gmacs=whole * target_share, round_to=None))
    assert account(pruned, 64).gmacs == pytest.approx(whole * target_share, rel=TOLERANCE)


def test_a_target_keeps_widths_at_multiples_of_round_to(tiny):
    pruned = apply(tiny, PrunedOptions(target_gmacs=account(tiny, 64).gmacs * 0.6, round_to=4))
    widths = {
        w for layer in dense_layers(pruned).values() for w in (layer.conv1.out_channels, layer.conv2.out_channels)
    }
    assert {width % 4 for width in widths} == {0}
    assert len(widths) > 1


def test_the_strongest_channels_keep_their_weights(tiny):
    dense = dense_layers(tiny)["features.denseblock4.denselayer2"]
    thin = dense_layers(apply(tiny, PrunedOptions(ratio=0.5, round_to=None)))["features.denseblock4.denselayer2"]
    assert (dense.conv1.out_channels, thin.conv1.out_channels) == (16, 8)
    # A 3x3 kernel lives on if both its ends do; every one that is left was there before.
    before = {tuple(k.tolist()) for k in dense.conv2.weight.reshape(-1, 9)}
    assert all(tuple(k.tolist()) in before for k in thin.conv2.weight.reshape(-1, 9))


@pytest.mark.parametrize(
    ("channels", "ratio", "round_to", "left"),
    [(32, 0.3, None, 22), (32, 0.3, 8, 16), (32, 0.3, 32, 32), (128, 0.3, 32, 64), (32, 0.99, None, 32)],
)
def test_widths_round_down_but_never_to_nothing(channels, ratio, round_to, left):
    assert remaining(channels, ratio, round_to) == left


def test_pruning_twice_gives_the_same_weights(tiny):
    options = PrunedOptions(ratio=0.4, round_to=2)
    assert fingerprint(apply(tiny, options)) == fingerprint(apply(tiny, options))


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5])
def test_a_ratio_that_prunes_nothing_or_everything_is_refused(tiny, ratio):
    with pytest.raises(UserError, match="above 0 and below 1"):
        check(tiny, PrunedOptions(ratio=ratio))


def test_a_rounding_that_leaves_every_layer_whole_is_refused(densenet121):
    with pytest.raises(UserError, match="prunes nothing"):
        check(densenet121, PrunedOptions(ratio=0.99, round_to=8))
    with pytest.raises(UserError, match="round_to=0"):
        check(densenet121, PrunedOptions(round_to=0))


@pytest.mark.parametrize("target", [2.835, 0.0, -1.0])
def test_a_target_that_is_no_reduction_names_the_models_own_gmacs(densenet121, target):
    with pytest.raises(UserError, match=r"the model has 2\.834 GMACs at 224 pixels"):
        check(densenet121, PrunedOptions(target_gmacs=target))


def test_a_target_out_of_reach_says_what_can_be_reached(tiny):
    with pytest.raises(UserError, match=r"out of reach: with round_to=8 the minimum .* is 0\.00\d+ GMACs"):
        check(tiny, PrunedOptions(target_gmacs=1e-6))


def test_a_target_between_two_steps_names_the_nearest_which_then_works(tiny):
    # Of this small network the stem does two thirds of the work, so one of its channels is a coarse step.
    with pytest.raises(UserError, match="can't be met within 2%") as caught:
        check(tiny, PrunedOptions(target_gmacs=account(tiny, 64).gmacs * 0.3, round_to=None))
    nearest = float(str(caught.value).split("the nearest is ")[1].split()[0])
    pruned = apply(tiny, PrunedOptions(target_gmacs=nearest, round_to=None))
    assert account(pruned, 64).gmacs == pytest.approx(nearest, rel=TOLERANCE)


def test_a_pruned_network_can_be_grouped_and_split(tiny, stack, images):
    cfg = stack(pruned={"ratio": 0.4, "round_to": 4}, grouped={"groups": 2}, early_exit={"after_block": 1})
    assert torch.isfinite(arch.apply_stack(tiny, cfg)(images)).all()
