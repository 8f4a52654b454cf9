"""A network as text: what a worker process needs to rebuild it, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from harness.config import ArchConfig, ModelConfig, arch_config_type, arch_off, packages
from harness.networks import build, spec
from harness.system.errors import CellError
from harness.techniques.arch.stack import apply_stack, sources
from harness.techniques.arch.stages import ONE_STAGE, Router, router_of

if TYPE_CHECKING:
    from torch import nn

    from harness.networks.identity import Identity


@dataclass(frozen=True)
class Recipe:
    """Model, architecture stack and, once it is calibrated, the router (None: the one that the options give)."""

    model: ModelConfig
    arch: ArchConfig = field(default_factory=arch_off)
    router: Mapping[str, Any] | None = None  # its fields
    checkpoint: str | None = None  # weights file of the changed network; None: what the stack leaves of the model's

    def to_json(self) -> str:
        """Return the recipe as JSON with sorted keys: equal recipes give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """Return the recipe that `to_json` wrote."""
        given = json.loads(text)
        return Recipe(
            model=ModelConfig(**given["model"]),
            arch=_arch_config(given["arch"]),
            router=given["router"],
            checkpoint=given.get("checkpoint"),
        )


def assemble(recipe: Recipe, checked: bool = False) -> nn.Module:
    """Build the model, apply the stack, load its own weights, set the router.

    Raises UserError as `build` and `apply_stack` do, and for a checkpoint of another network; what another process has
    `checked` already is not checked again.
    """
    network = apply_stack(build(recipe.model, checked), recipe.arch, checked)
    if recipe.checkpoint is not None:
        from harness.networks.weights import load_weights

        load_weights(network, spec(recipe.model.name), recipe.checkpoint)
    if recipe.router is not None:
        network.router = _restored(router_of(network), recipe.router)  # type: ignore[assignment]
    return network


def identity_of(recipe: Recipe, network: nn.Module) -> Identity:
    """Return the identity of what `assemble(recipe)` has just given; the router is not part of it."""
    from harness.networks.identity import identity

    made_from = [*packages.model_source(recipe.model.name), *sources(recipe.arch)]
    return identity(network, made_from, without=("router",))


def rebuild(text: str) -> nn.Module:
    """Return the network of a recipe with its proofs (`Network.text`); raise CellError if it is another one now."""
    from harness.networks.identity import fingerprint

    given = json.loads(text)
    recipe = Recipe.from_json(json.dumps(given["recipe"]))
    network = assemble(recipe, checked=True)
    if fingerprint(network) != given["fingerprint"]:
        raise CellError("the rebuilt network's weights differ from the exported ones: did the weights file change?")
    found = identity_of(recipe, network).state
    # a network that is built differently every time (a counter, a clock) can't be distinguished from a changed one
    if found != given["identity"] and found == identity_of(recipe, assemble(recipe, checked=True)).state:
        raise CellError("the rebuilt network is not the exported one: did its code or its settings change meanwhile?")
    return network


def _restored(router: Router, fields_of_router: Mapping[str, Any]) -> Router:
    """Return a router of the same type with these fields; JSON has no tuples, and a frozen dataclass no lists."""
    if router is ONE_STAGE:
        raise ValueError("a recipe with a router needs a network in several stages")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in fields_of_router.items()}
    return type(router)(**given)


def _arch_config(given: dict[str, Any]) -> ArchConfig:
    usual = arch_config_type()()
    kinds = {part.name: type(getattr(usual, part.name)) for part in fields(usual)}
    return type(usual)(**{name: kinds[name](**options) for name, options in given.items()})
