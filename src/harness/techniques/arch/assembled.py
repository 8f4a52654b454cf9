"""One assembled architecture: its stages, its accounting, and what identifies it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from typing import TYPE_CHECKING

from harness.config import ArchConfig, ModelConfig
from harness.networks.data.labelled import Labelled
from harness.networks.fingerprint import fingerprint
from harness.system.errors import UserError
from harness.techniques.arch.accounting import Accounting, account
from harness.techniques.arch.calibration import calibrate
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.recipe import Recipe, assemble
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
    fingerprint: str

    @property
    def text(self) -> str:
        """Everything that rebuilds the network and proves it: a recipe and the fingerprint, as JSON."""
        return json.dumps({"recipe": json.loads(self.recipe.to_json()), "fingerprint": self.fingerprint})


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
    )
