"""The artifact of the engines that run an nn.Module: a recipe, and the module rebuilt from it in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.engines.base import Artifact
from harness.system.errors import CellError

if TYPE_CHECKING:
    from harness.techniques.arch.stages import Stage

RECIPE_FILE = "recipe.json"


def rebuilt_stage(artifact: Artifact) -> Stage:
    """Rebuild the stage an artifact names; raise CellError if it is not the network that was exported."""
    from harness.techniques.arch.recipe import rebuild
    from harness.techniques.arch.stages import stages

    network = rebuild((artifact.path / RECIPE_FILE).read_text())
    for stage in stages(network):
        if stage.name == artifact.plan.stage:
            stage.module.eval()
            return stage
    raise CellError(f"the rebuilt network has no stage {artifact.plan.stage!r}")
