"""The `inductor` engine: compiled once in a build worker; the timed worker starts from the compiler's cache.

The artifact is torch's portable cache (`torch.compiler.save_cache_artifacts`), so that loading it compiles nothing
again: https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_tutorial.html
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import EngineOption, HarnessConfig
from harness.engines.base import Artifact, Availability, BuildPlan, Engine, Executable, Option, TakenAway, run_graph
from harness.engines.eager.engine import CHANNELS_LAST, CUDNN_BENCHMARK, NHWC, NO_INT8
from harness.engines.inductor.lowerings import LOWERINGS, lowerings_of
from harness.system.errors import kind_and_first_line
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, TF32, Capabilities

if TYPE_CHECKING:
    from harness.engines.profiling import CellProfile
    from harness.techniques.levels import Levels


def _at_maximum(levels: Levels) -> bool:
    return levels.fusion == "max"


class InductorEngine(Engine):
    """torch.compile with the Inductor backend behind the engine contract."""

    name = "inductor"
    capabilities = Capabilities((FP32, TF32, FP16, BF16), lacking=NO_INT8, autotunes=True, lowerings=tuple(LOWERINGS))
    options = (
        replace(CHANNELS_LAST, meaning=f"{NHWC}true"),
        CUDNN_BENCHMARK,
        EngineOption(
            "max_autotune", bool, "time Inductor's own templates too; builds take minutes", False,
            needs="hw=fusion: at its other levels the compiler times no templates.", reads=_at_maximum,
        ),
    )  # fmt: skip
    runs_module = True
    quick = ()  # a compiler: a minute a build on two cores

    def settings(self, requested: Mapping[str, Any], levels: Levels, device: str) -> dict[str, Option]:
        """Return layout (channels last unless set otherwise) and algorithm choice on a GPU, and what `fusion` adds."""
        out: dict[str, Option] = {}
        if device == "cuda":
            out["channels_last"] = requested["channels_last"] in (None, True)
            out["cudnn_benchmark"] = requested["cudnn_benchmark"]
        if _at_maximum(levels):
            out["max_autotune"] = requested["max_autotune"]
        if levels.lowerings:
            out["lowerings"] = ",".join(levels.lowerings)
        return out

    def builds_differ(self, requested: HarnessConfig, device: str) -> bool:
        """Whether templates are timed: without them two builds differ less than two processes of one do.

        Seen on an H200 with eight builds of one cell: experiments/rebuilds.
        """
        return super().builds_differ(requested, device) and bool(requested.engine.option("max_autotune"))

    def version(self) -> str:
        """Return torch's version: Inductor is a part of it."""
        return version("torch")

    def availability(self, device: str) -> Availability:
        """Return what can be done: on a GPU it needs one and Triton, on a CPU a C++ compiler."""
        reason = None
        if device == "cuda":
            import torch

            reason = None if torch.cuda.is_available() else "torch sees no CUDA GPU here"
        elif device == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
            reason = "Inductor on a CPU needs a C++ compiler (g++ or clang++)"
        return Availability(build=reason, run=reason)

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError for a build for another chip, and for a lowering that this plan can't have."""
        super().check(plan)
        for name in lowerings_of(plan):
            LOWERINGS[name].check(plan)

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Compile by running one batch, and save the compiler's cache; see `compiler.build`."""
        from harness.engines.inductor.compiler import build

        return build(plan, workdir, self.version())

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable that starts from the artifact's cache."""
        from harness.engines.inductor.compiler import FromCache

        return FromCache(artifact, device)

    def take_away(self, artifact: Artifact, folder: Path) -> TakenAway:
        """Compile ahead of time, with the options of the build: the cache that was timed needs the network's code."""
        from harness.engines.inductor.compiler import AHEAD_FILE, compile_ahead

        plan = artifact.plan
        try:
            compile_ahead(artifact, folder / AHEAD_FILE)
        except Exception as error:  # of the exporter or the compiler, each has its own
            return run_graph(plan, f"Inductor could not compile ahead of time ({kind_and_first_line(error)[:200]})")
        facts = {
            "threads": int(dict(plan.options).get("threads", 0)), "dtype": plan.precision.dtype,
            "device": plan.device, "tf32": plan.tf32,
        }  # fmt: skip
        note = (
            f"compiled ahead of time by torch {artifact.engine_version}'s Inductor with the options of the build that "
            "was timed, for this chip: not the timed code itself, which needs this project"
        )
        return TakenAway(AHEAD_FILE, "aot_inductor", f"torch {artifact.engine_version}", note, facts)

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Profile the compiled module by PyTorch's profiler, its kernels by where the compiler says they come from."""
        from harness.engines.eager.profiler import profile_module
        from harness.engines.inductor.compiler import read_origins
        from harness.engines.inductor.profiler import parts_of_kernels

        kernels = parts_of_kernels(read_origins(artifact.path))
        return profile_module(lambda: executable.launch(batch_size), None, kernels, device)


INDUCTOR = InductorEngine()
