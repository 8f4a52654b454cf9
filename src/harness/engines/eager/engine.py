"""The `eager` engine: nothing is compiled, so the artifact is the recipe that rebuilds the module in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import EngineOption
from harness.engines.base import Artifact, Availability, BuildPlan, Engine, Executable, Option
from harness.engines.eager.rebuild import RECIPE_FILE
from harness.system.errors import UserError
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, TF32, Capabilities

if TYPE_CHECKING:
    from harness.engines.profiling import CellProfile
    from harness.techniques.levels import Levels

NHWC = "GPU only: true converts the network to NHWC (channels last), the order of tensor cores; None: "
CHANNELS_LAST = EngineOption("channels_last", bool | None, f"{NHWC}false")
CUDNN_BENCHMARK = EngineOption("cudnn_benchmark", bool, "GPU only: try cuDNN's algorithms on the first batch", False)
NO_INT8 = dict.fromkeys(("int8", "int8+fp16"), "it runs the module, and Q/DQ nodes are put into its exported graph")


class EagerEngine(Engine):
    """PyTorch eager behind the engine contract."""

    name = "eager"
    capabilities = Capabilities(
        (FP32, TF32, FP16, BF16), lacking=NO_INT8, compiles=False, fuses=False, static_batch=False
    )
    options = (CHANNELS_LAST, CUDNN_BENCHMARK)
    runs_module = True

    def settings(self, requested: Mapping[str, Any], levels: Levels, device: str) -> dict[str, Option]:
        """Return layout and algorithm choice, on a GPU."""
        return {name: bool(value) for name, value in requested.items()} if device == "cuda" else {}

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
            proof={"nodes_before": plan.graph.nodes, "precision_in_use": plan.precision.name, "batch": "dynamic"},
        )

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable; see `runtime.ModuleExecutable`."""
        from harness.engines.eager.runtime import ModuleExecutable

        return ModuleExecutable(artifact, device)

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Profile the module by PyTorch's profiler, its operations by the module that called them."""
        from harness.engines.eager.profiler import profile_module

        return profile_module(lambda: executable.launch(batch_size), executable.module, (), device)


EAGER = EagerEngine()
