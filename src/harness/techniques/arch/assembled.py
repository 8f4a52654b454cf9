"""One assembled architecture: its stages, its accounting, and what identifies it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from typing import TYPE_CHECKING

from harness.config import ArchConfig, ModelConfig, packages
from harness.config.sources import source_digest
from harness.networks import build
from harness.networks.data.labelled import Labelled
from harness.networks.fingerprint import Identity, fingerprint, identity
from harness.system.errors import UserError
from harness.techniques.arch import stack
from harness.techniques.arch.accounting import Accounting, account
from harness.techniques.arch.calibration import calibrate
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.recipe import Recipe, assemble, identity_of
from harness.techniques.arch.stages import Stage, stages
from harness.techniques.arch.threshold import policy_on

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """One assembled architecture: its stages, its accounting, and what identifies it."""

    recipe: Recipe
    module: nn.Module
    stages: tuple[Stage, ...]
    policy: ExitPolicy | None
    accounting: Accounting
    fingerprint: str  # of its weights
    identity: Identity

    @property
    def text(self) -> str:
        """Everything that rebuilds the network and proves it: a recipe, its fingerprint and identity, as JSON."""
        proofs = {"fingerprint": self.fingerprint, "identity": self.identity.own}
        return json.dumps({"recipe": json.loads(self.recipe.to_json()), **proofs})


def network(
    model: ModelConfig,
    arch: ArchConfig,
    checkpoint: str | None = None,
    checkpoint_sha256: str = "",
    data: Labelled | None = None,
) -> Network:
    """Return an assembled network; the last few are kept, since the cells of a sweep share them.

    `checkpoint` holds the weights of the changed network; an exit's threshold is chosen on the validation images of
    `data`, without labelled data on synthetic ones.
    """
    texts = (json.dumps(asdict(part), sort_keys=True) for part in (model, arch))
    return _network(*texts, checkpoint, checkpoint_sha256, data)


@memoised
def _network(model: str, arch: str, checkpoint: str | None, checkpoint_sha256: str, data: Labelled | None) -> Network:
    given = {"model": json.loads(model), "arch": json.loads(arch), "exit_policy": None, "checkpoint": checkpoint}
    recipe = Recipe.from_json(json.dumps(given))
    module = assemble(recipe)
    found = identity_of(recipe, module)  # at once: running a network may leave traces in it
    if isinstance(module, EarlyExitNetwork):  # the threshold is found once, here, and travels with the recipe
        if data is None:
            module.policy = calibrate(module, module.policy)
        else:
            if data.validation is None:
                raise UserError("an exit threshold is chosen on validation images, and this data has none.")
            module.policy = policy_on(module, recipe.arch.early_exit, data.validation)
        recipe = replace(recipe, exit_policy=module.policy)
    return Network(
        recipe=recipe,
        module=module,
        stages=stages(module),
        policy=module.policy if isinstance(module, EarlyExitNetwork) else None,
        accounting=account(module, recipe.model.image_size),
        fingerprint=fingerprint(module),
        identity=found,
    )


def base_identity(model: ModelConfig, arch: ArchConfig) -> list[str]:
    """Return what identifies a network before anything is prepared: the unmodified one's identity, and what changes it.

    Of the techniques their sources count, for pruning alone takes seconds; the options of both are in the config.
    """
    return [_base_identity(json.dumps(asdict(model), sort_keys=True)), source_digest(stack.sources(arch))]


@memoised
def _base_identity(model: str) -> str:
    config = ModelConfig(**json.loads(model))
    try:
        return identity(build(config), packages.model_source(config.name)).exact
    except Exception as error:  # its quartets will fail with the reason, and a failed one is never kept
        return f"not built: {type(error).__name__}: {error}"
