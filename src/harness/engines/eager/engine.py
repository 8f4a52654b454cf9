"""The `eager` engine: nothing is compiled, so the artifact is the recipe that rebuilds the module in a worker."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engines.base import Artifact, Availability, BuildPlan, Executable, Option
from harness.engines.eager.rebuild import RECIPE_FILE
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.config import EngineConfig
    from harness.techniques.levels import Levels


class EagerEngine:
    """PyTorch eager behind the engine contract."""

    name = "eager"
    fusion_steps = ()
    own_options = ("channels_last", "cudnn_benchmark")
    runs_module = True

    def options(self, asked: EngineConfig, levels: Levels, device: str) -> dict[str, Option]:
        """Return layout and algorithm choice, on a GPU."""
        if device != "cuda":
            return {}
        return {"channels_last": bool(asked.channels_last), "cudnn_benchmark": asked.cudnn_benchmark}

    def version(self) -> str:
        """Return torch's version."""
        return version("torch")

    def availability(self, device: str) -> Availability:
        """Return what can be done: everything on a CPU; on a GPU torch must see it."""
        if device == "cuda":
            import torch

            if not torch.cuda.is_available():
                reason = "torch sees no CUDA GPU here"
                return Availability(build=reason, run=reason)
        return Availability()

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError for a build for another chip: nothing is built."""
        if plan.compute_capability is not None:
            raise UserError("engine.compute_capability: engine eager builds nothing; engine=tensorrt_rtx does.")

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Write the recipe; the ONNX graph of the same stage is kept in the export cache all the same."""
        (workdir / RECIPE_FILE).write_text(plan.recipe)
        return Artifact(
            plan=plan,
            path=workdir,
            main_file=RECIPE_FILE,
            engine_version=self.version(),
            size_mb=len(plan.recipe) / 1e6,
            proof={"nodes_before": plan.graph.nodes, "precision_in_use": plan.precision, "batch": "dynamic"},
        )

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable; see `runtime.ModuleExecutable`."""
        from harness.engines.eager.runtime import ModuleExecutable

        return ModuleExecutable(artifact, device)


EAGER = EagerEngine()
