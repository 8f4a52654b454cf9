from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from harness.config import arch_off
from harness.networks.identity import fingerprint
from harness.system.errors import UserError
from harness.techniques import arch
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.low_rank import Factored

CONF = Path(__file__).parents[4] / "conf" / "arch"


def test_techniques_come_in_the_documented_order_however_they_are_given(stack):
    cfg = stack(early_exit={}, low_rank={}, grouped={}, pruned={}, reduced_depth={}, reduced_growth={}, identity={})
    assert arch.enabled(cfg) == arch.ORDER
    assert arch.ORDER == ("identity", "reduced_growth", "reduced_depth", "pruned", "grouped", "low_rank", "early_exit")


def test_every_technique_has_a_file_that_carries_its_name():
    assert [arch.technique(name).name for name in arch.ORDER] == list(arch.ORDER)


def test_flat_options_hold_those_of_the_enabled_techniques_alone(stack):
    cfg = stack(grouped={"groups": 8}, pruned={})
    assert arch.flat_options(cfg) == {
        "arch.grouped.groups": 8,
        "arch.pruned.ratio": 0.3,
        "arch.pruned.target_gmacs": None,
        "arch.pruned.round_to": 8,
    }
    assert arch.flat_options(arch_off()) == {}


def test_an_empty_stack_is_the_model_itself(tiny):
    assert arch.apply_stack(tiny, arch_off()) is tiny


def test_identity_is_another_module_with_the_same_weights(tiny, stack, images):
    same = arch.apply_stack(tiny, stack(identity={}))
    assert same is not tiny
    assert fingerprint(same) == fingerprint(tiny)
    assert torch.equal(same(images), tiny(images))


@pytest.mark.parametrize(
    "techniques",
    [
        {"reduced_growth": {"growth_rate": 4}},
        {"pruned": {}},
        {"grouped": {"groups": 2}},
        {"low_rank": {}},
        {"early_exit": {}},
    ],
    ids=lambda techniques: next(iter(techniques)),
)
def test_a_technique_leaves_the_given_model_as_it_was(tiny, stack, images, techniques):
    before, output = fingerprint(tiny), tiny(images)
    changed = arch.apply_stack(tiny, stack(**techniques))
    assert changed(images).shape == output.shape
    assert not changed.training
    assert not any(p.requires_grad for p in changed.parameters())
    assert fingerprint(tiny) == before
    assert not any(p.requires_grad for p in tiny.parameters())
    assert torch.equal(tiny(images), output)


def test_all_techniques_stack(tiny, stack, images):
    cfg = stack(
        reduced_growth={"growth_rate": 6},
        pruned={"ratio": 0.4, "round_to": 2},
        grouped={"groups": 2},
        low_rank={"ratio": 0.5},
        early_exit={"after_block": 2},
    )
    arch.check_stack(tiny, cfg)
    network = arch.apply_stack(tiny, cfg)
    assert isinstance(network, EarlyExitNetwork)
    assert torch.isfinite(network(images)).all()


def test_low_rank_leaves_grouped_convolutions_alone(tiny, stack):
    network = arch.apply_stack(tiny, stack(grouped={"groups": 2}, low_rank={}))
    factored = [name for name, part in network.named_modules() if isinstance(part, Factored)]
    assert factored == [f"features.transition{i}.conv" for i in (1, 2, 3)] + ["classifier"]


def test_a_check_sees_what_the_earlier_techniques_leave(tiny, stack):
    arch.check_stack(tiny, stack(grouped={"groups": 8}))
    with pytest.raises(UserError, match=r"groups=8 does not divide features\.denseblock1\.denselayer1\.conv1"):
        arch.check_stack(tiny, stack(reduced_growth={"growth_rate": 6}, grouped={"groups": 8}))


@pytest.mark.parametrize("name", [*arch.ORDER, "none"])
def test_each_group_choice_switches_on_its_own_technique(name):
    chosen = OmegaConf.load(CONF / f"{name}.yaml")
    cfg = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(arch_off()), chosen))
    assert arch.enabled(cfg) == (() if name == "none" else (name,))
