import pytest
from torch import nn

from harness.networks import image_side
from harness.networks.identity import fingerprint
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.accounting import account
from harness.techniques.arch.anatomy import DenseNetShape, densenet_shape


def test_growth_24_has_4_743_million_parameters_and_1_697_gmacs(densenet121, stack):
    found = account(arch.apply_stack(densenet121, stack(reduced_growth={"growth_rate": 24})), 224)
    assert (round(found.params_m, 3), round(found.gmacs, 3)) == (4.743, 1.697)


def test_everything_but_the_growth_rate_is_kept(tiny, stack):
    narrow = arch.apply_stack(tiny, stack(reduced_growth={"growth_rate": 5}))
    assert densenet_shape(tiny, "x") == DenseNetShape(8, (2, 2, 2, 2), 16, 2, 10)
    assert densenet_shape(narrow, "x") == DenseNetShape(5, (2, 2, 2, 2), 16, 2, 10)
    assert image_side(narrow) == 64


def test_the_new_weights_come_from_the_techniques_seed(tiny, stack):
    one, again, other = (
        fingerprint(arch.apply_stack(tiny, stack(reduced_growth={"growth_rate": 4, "seed": seed})))
        for seed in (2, 2, 3)
    )
    assert one == again != other


@pytest.mark.parametrize("growth_rate", [0, 8, 9])
def test_a_growth_rate_that_is_no_reduction_is_refused(tiny, stack, growth_rate):
    with pytest.raises(UserError, match=r"the model has 8, so it must be from 1 to 7"):
        arch.check_stack(tiny, stack(reduced_growth={"growth_rate": growth_rate}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("reduced_growth", "needs a DenseNet, found Sequential"),
        ("grouped", "Sequential has no dense convolution"),
        ("early_exit", "needs a DenseNet, ResNet, .* found Sequential"),
    ],
)
def test_another_family_is_refused_by_name(stack, name, said):
    with pytest.raises(UserError, match=f"arch={name} .*{said}"):
        arch.check_stack(nn.Sequential(nn.Linear(3, 2)), stack(**{name: {}}))
