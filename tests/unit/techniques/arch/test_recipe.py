import sys
from dataclasses import asdict

import pytest
import torch

import warm_starts
from harness.config import ModelConfig, arch_off
from harness.networks.identity import fingerprint
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.recipe import Recipe, assemble

TINY = ModelConfig(name="densenet_tiny", image_size=64, num_classes=10)

REBUILD = """
import sys, torch
torch.set_num_threads(2)
torch.manual_seed(99)
from harness.techniques.arch.recipe import Recipe, assemble
from harness.networks.identity import fingerprint
for line in sys.argv[1].splitlines():
    network = assemble(Recipe.from_json(line))
    print(fingerprint(network), getattr(network, "router", None))
"""


def test_a_recipe_survives_json(stack):
    recipe = Recipe(
        TINY, stack(grouped={"groups": 2}, early_exit={}), asdict(ExitPolicy("threshold", 0.5, 0.1234567890123))
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(Recipe(TINY, arch_off()).to_json()) == Recipe(TINY)


@pytest.mark.slow
def test_another_process_with_other_threads_and_seed_assembles_the_same_bits(stack):
    recipes = [
        Recipe(TINY),
        Recipe(TINY, stack(reduced_growth={"growth_rate": 4}), None),
        Recipe(
            TINY,
            stack(pruned={"ratio": 0.4, "round_to": 4}, grouped={"groups": 2}, low_rank={}, early_exit={}),
            asdict(ExitPolicy("threshold", 0.5, 0.3)),
        ),
        Recipe(ModelConfig(name="densenet121"), stack(low_rank={"rank": 256, "conv1x1": False})),
    ]
    text = "\n".join(recipe.to_json() for recipe in recipes)
    other = warm_starts.run([sys.executable, "-c", REBUILD, text], timeout=300)
    here = [assemble(recipe) for recipe in recipes]
    assert other.stdout.splitlines() == [f"{fingerprint(net)} {getattr(net, 'router', None)}" for net in here]
    assert len(set(other.stdout.splitlines())) == 4


def test_a_recipes_router_replaces_the_options(stack, images):
    policy = ExitPolicy("threshold", 1.0, 0.0)
    network = assemble(Recipe(TINY, stack(early_exit={}), asdict(policy)))
    assert network.router == policy
    assert torch.equal(network(images), network.stage1(images)[1])  # everything leaves


def test_a_router_of_a_network_in_one_stage_is_a_bug():
    with pytest.raises(ValueError, match="several stages"):
        assemble(Recipe(TINY, arch_off(), {"decision": "share"}))
