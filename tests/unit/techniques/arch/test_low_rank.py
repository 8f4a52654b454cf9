import pytest
import torch
from torch import nn

from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.low_rank import Factored, apply, check
from harness.techniques.arch.options import LowRankOptions


def factored(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, Factored)}


@pytest.mark.parametrize(("rank", "params"), [(128, 260_072), (256, 519_144), (400, 810_600)])
def test_the_classifier_at_a_rank_has_the_parameters_it_should(densenet121, rank, params):
    network = apply(densenet121, LowRankOptions(rank=rank, conv1x1=False))
    assert list(factored(network)) == ["classifier"]
    assert sum(p.numel() for p in network.classifier.parameters()) == params


@pytest.mark.parametrize(("ratio", "params_m", "gmacs"), [(0.25, 4.756, 1.891), (0.5, 6.255, 2.421)])
def test_the_61_1x1_convolutions_without_the_classifier_cost_what_they_should(densenet121, ratio, params_m, gmacs):
    network = apply(densenet121, LowRankOptions(ratio=ratio, classifier=False))
    found = account(network, 224)
    assert (round(found.params_m, 3), round(found.gmacs, 3)) == (params_m, gmacs)
    assert len(factored(network)) == 61


def test_rank_ratio_and_energy_all_null_mean_a_quarter(tiny):
    ranks = {name: part.rank for name, part in factored(apply(tiny, LowRankOptions())).items()}
    assert ranks == {n: p.rank for n, p in factored(apply(tiny, LowRankOptions(ratio=0.25))).items()}
    assert ranks["features.denseblock1.denselayer1.conv1"] == 4  # of 16 in, 16 out


def test_full_rank_is_the_original_within_rounding(tiny, images):
    torch.testing.assert_close(apply(tiny, LowRankOptions(ratio=1.0))(images), tiny(images), rtol=1e-4, atol=1e-5)


def test_the_truncated_weights_are_the_nearest_of_their_rank(tiny):
    dense = tiny.classifier
    thin = apply(tiny, LowRankOptions(rank=3, conv1x1=False)).classifier
    error = (dense.weight - thin[1].weight @ thin[0].weight).double().square().sum()
    # Eckart and Young: what is lost is the squares of the singular values that were dropped.
    lost = torch.linalg.svdvals(dense.weight.double())[3:].square().sum()
    assert error.item() == pytest.approx(lost.item(), rel=1e-5)
    assert torch.equal(thin[1].bias, dense.bias)


def test_stride_and_padding_survive():
    model = nn.Sequential(nn.Conv2d(6, 5, 1, stride=2, padding=1), nn.Flatten(), nn.Linear(5 * 25, 2)).eval()
    thin = apply(model, LowRankOptions(ratio=1.0, classifier=False))
    batch = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(thin(batch), model(batch), rtol=1e-4, atol=1e-5)


def test_energy_keeps_the_smallest_rank_that_is_enough():
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0])))  # energies 9, 4, 1, 0 of 14

    def rank(energy):
        return apply(nn.Sequential(layer), LowRankOptions(energy=energy))[0].rank

    assert [rank(energy) for energy in (0.5, 0.7, 0.92, 0.95, 1.0)] == [1, 2, 2, 3, 3]


def test_more_than_one_way_to_say_the_rank_is_refused(tiny):
    with pytest.raises(UserError, match=r"rank=8 and arch\.low_rank\.energy=0\.9 contradict"):
        check(tiny, LowRankOptions(rank=8, energy=0.9))


def test_a_rank_above_a_layers_limit_names_layer_and_limit(densenet121):
    with pytest.raises(UserError, match=r"rank=128 .* features\.denseblock1\.denselayer1\.conv1 has: its limit is 64"):
        check(densenet121, LowRankOptions(rank=128))
    with pytest.raises(UserError, match=r"rank=1001 .* classifier has: its limit is 1000"):
        check(densenet121, LowRankOptions(rank=1001, conv1x1=False))
    check(densenet121, LowRankOptions(rank=1000, conv1x1=False))


@pytest.mark.parametrize(
    "options", [{"rank": 0}, {"ratio": 0.0}, {"ratio": 1.01}, {"energy": 0.0}, {"energy": 2.0}, {"ratio": -0.5}]
)
def test_a_rank_ratio_or_energy_out_of_range_is_refused(tiny, options):
    with pytest.raises(UserError, match=f"arch.low_rank.{next(iter(options))}="):
        check(tiny, LowRankOptions(**options))


def test_nothing_to_factor_is_refused(tiny):
    with pytest.raises(UserError, match="nothing to factor"):
        check(tiny, LowRankOptions(classifier=False, conv1x1=False))
    with pytest.raises(UserError, match="the model has none"):
        check(nn.Sequential(nn.Conv2d(3, 4, 3)), LowRankOptions())


@pytest.mark.parametrize(("rank", "noted"), [(505, False), (506, True)])
def test_a_rank_that_saves_nothing_is_noted_from_the_break_even_on(densenet121, stack, rank, noted):
    notes = account(arch.apply_stack(densenet121, stack(low_rank={"rank": rank, "conv1x1": False})), 224).notes
    assert notes == ((f"low_rank: rank {rank} of classifier saves nothing (break-even 506)",) if noted else ())
