"""The `inductor` engine: compiled once in a build worker; the timed worker starts from the compiler's cache.

The artifact is torch's portable cache (`torch.compiler.save_cache_artifacts`), so that loading it compiles nothing
again: https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_tutorial.html
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engines.base import Artifact, Availability, BuildPlan, Executable, Option
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.config import EngineConfig
    from harness.techniques.levels import Levels


class InductorEngine:
    """torch.compile with the Inductor backend behind the engine contract."""

    name = "inductor"
    fusion_steps = ()
    own_options = ("channels_last", "cudnn_benchmark", "max_autotune")
    runs_module = True

    def options(self, asked: EngineConfig, levels: Levels, device: str) -> dict[str, Option]:
        """Return layout (channels last unless told otherwise) and algorithm choice on a GPU, and what `fusion` adds."""
        out: dict[str, Option] = {"lowering": _sources_sha256()}  # a change of ours is another artifact
        if device == "cuda":
            out["channels_last"] = True if asked.channels_last is None else asked.channels_last
            out["cudnn_benchmark"] = asked.cudnn_benchmark
        if levels.fusion == "max":
            out |= {"max_autotune": asked.max_autotune, "dense_blocks": levels.dense_blocks}
        return out

    def version(self) -> str:
        """Return torch's version: Inductor is a part of it."""
        return version("torch")

    def availability(self, device: str) -> Availability:
        """Return what can be done: on a GPU it needs one and Triton, on a CPU a C++ compiler."""
        import torch

        reason = None
        if device == "cuda" and not torch.cuda.is_available():
            reason = "torch sees no CUDA GPU here"
        elif device == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
            reason = "Inductor on a CPU needs a C++ compiler (g++ or clang++)"
        return Availability(build=reason, run=reason)

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError for a build for another chip, and for GPU kernels on a CPU."""
        if plan.compute_capability is not None:
            raise UserError(
                "engine.compute_capability: inductor compiles for the machine it runs on; "
                "engine=tensorrt_rtx builds for another chip."
            )
        if dict(plan.options).get("dense_blocks") and plan.device != "cuda":
            raise UserError("hw.fusion.dense_blocks=true: the kernels run on a GPU; leave it out on a CPU.")

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Compile by running one batch, and save the compiler's cache; see `compiler.build`."""
        from harness.engines.inductor.compiler import build

        return build(plan, workdir, self.version())

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable that starts from the artifact's cache."""
        from harness.engines.eager.runtime import ModuleExecutable
        from harness.engines.inductor.compiler import warm_compile

        return ModuleExecutable(artifact, device, warm_compile(artifact))


@cache
def _sources_sha256() -> str:
    """Return the first 12 digits over this room's sources: they are a part of what is compiled."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


INDUCTOR = InductorEngine()
