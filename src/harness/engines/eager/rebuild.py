"""The artifact of the engines that run an nn.Module: a recipe, and the module rebuilt from it in a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.engines.base import Artifact
from harness.system.errors import CellError

if TYPE_CHECKING:
    from torch import nn

RECIPE_FILE = "recipe.json"


def stage_module(artifact: Artifact) -> nn.Module:
    """Rebuild the stage an artifact names; raise CellError if its weights are not the ones that were exported."""
    from harness.networks.fingerprint import fingerprint
    from harness.techniques.arch.recipe import Recipe, assemble
    from harness.techniques.arch.stages import stages

    text = (artifact.path / RECIPE_FILE).read_text()
    given = json.loads(text)
    network = assemble(Recipe.from_json(json.dumps(given["recipe"])))
    found = fingerprint(network)
    if found != given["fingerprint"]:
        raise CellError("the rebuilt network's weights differ from the exported ones: did the weights file change?")
    for stage in stages(network):
        if stage.name == artifact.plan.stage:
            return stage.module.eval()
    raise CellError(f"the rebuilt network has no stage {artifact.plan.stage!r}")
