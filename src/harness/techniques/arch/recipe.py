"""A network as text: what a worker process needs to rebuild it, bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from harness.config import ArchConfig, ModelConfig, arch_config_type, packages
from harness.networks import build, spec
from harness.system.errors import CellError
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.stack import apply_stack, sources

if TYPE_CHECKING:
    from torch import nn

    from harness.networks.fingerprint import Identity


@dataclass(frozen=True)
class Recipe:
    """Model, architecture stack and, once it is calibrated, the exit policy (None: the one that the options give)."""

    model: ModelConfig
    arch: ArchConfig = field(default_factory=ArchConfig)
    exit_policy: ExitPolicy | None = None
    checkpoint: str | None = None  # weights file of the changed network; None: what the stack leaves of the model's

    def to_json(self) -> str:
        """Return the recipe as JSON with sorted keys: equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """Return the recipe that `to_json` wrote."""
        given = json.loads(text)
        policy = given["exit_policy"]
        return Recipe(
            model=ModelConfig(**given["model"]),
            arch=_arch_config(given["arch"]),
            exit_policy=None if policy is None else ExitPolicy(**policy),
            checkpoint=given.get("checkpoint"),
        )


def assemble(recipe: Recipe) -> nn.Module:
    """Build the model, apply the stack, load its own weights, set the policy.

    Raises UserError as `build` and `apply_stack` do, and for a checkpoint of another network.
    """
    network = apply_stack(build(recipe.model), recipe.arch)
    if recipe.checkpoint is not None:
        from harness.networks.weights import load_weights

        load_weights(network, spec(recipe.model.name), recipe.checkpoint)
    if recipe.exit_policy is not None:
        from harness.techniques.arch.early_exit import EarlyExitNetwork

        if not isinstance(network, EarlyExitNetwork):
            raise ValueError("a recipe with an exit policy needs arch.early_exit.enabled")
        network.policy = recipe.exit_policy
    return network


def identity_of(recipe: Recipe, network: nn.Module) -> Identity:
    """Return the identity of what `assemble(recipe)` has just given; who leaves early is no part of it."""
    from harness.networks.fingerprint import identity

    made_from = [*packages.model_source(recipe.model.name), *sources(recipe.arch)]
    return identity(network, made_from, without=("policy",))


def rebuild(text: str) -> nn.Module:
    """Return the network of a recipe with its proofs (`Network.text`); raise CellError if it is another one now."""
    from harness.networks.fingerprint import fingerprint

    given = json.loads(text)
    recipe = Recipe.from_json(json.dumps(given["recipe"]))
    network = assemble(recipe)
    if fingerprint(network) != given["fingerprint"]:
        raise CellError("the rebuilt network's weights differ from the exported ones: did the weights file change?")
    found = identity_of(recipe, network).own
    # one that is built differently every time, with a counter or a clock in it, can't be told from a changed one
    if found != given["identity"] and found == identity_of(recipe, assemble(recipe)).own:
        raise CellError("the rebuilt network is not the exported one: did its code or its settings change meanwhile?")
    return network


def _arch_config(given: dict[str, Any]) -> ArchConfig:
    usual = arch_config_type()()
    kinds = {part.name: type(getattr(usual, part.name)) for part in fields(usual)}
    return type(usual)(**{name: kinds[name](**options) for name, options in given.items()})
