"""The `onnxruntime` engine: CPU, CUDA and TensorRT execution providers behind the engine contract."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import EngineOption
from harness.engines.base import Artifact, Availability, BuildPlan, Engine, Executable, Option, TakenAway
from harness.engines.onnxruntime.runtime import PROVIDERS, providers_of
from harness.system.errors import UserError
from harness.techniques.hw.fp16 import FP16
from harness.techniques.hw.int8 import INT8_AFFINE
from harness.techniques.levels import FP32, TF32, Capabilities

if TYPE_CHECKING:
    from harness.engines.profiling import CellProfile
    from harness.techniques.levels import Levels


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime behind the engine contract (https://onnxruntime.ai/docs/)."""

    name = "onnxruntime"
    capabilities = Capabilities(
        (FP32, TF32, FP16, INT8_AFFINE),
        lacking={
            "bf16": "it has no bf16 kernel for a convolution, 1.32 on a CPU refuses the graph",
            "int8+fp16": "beside its eight-bit kernels it emulates fp16 by casts",
        },
        fusion_steps=("ORT_ENABLE_EXTENDED",),
    )
    options = (
        EngineOption("providers", list[str] | None, "execution providers in order of preference; None: by device"),
        EngineOption("channels_last", bool | None, "GPU only: true prefers kernels that compute in NHWC; None: false"),
    )

    def settings(self, requested: Mapping[str, Any], levels: Levels, device: str) -> dict[str, Option]:
        """Return the execution providers, and on a GPU whether NHWC kernels are preferred."""
        out: dict[str, Option] = {"providers": ",".join(requested["providers"])} if requested["providers"] else {}
        if device == "cuda":
            out["channels_last"] = bool(requested["channels_last"])
        return out

    def version(self) -> str:
        """Return the version of the module that runs, "not installed" without one."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "not installed"
        # not a package's metadata: the CPU's and the GPU's may both be installed, and the later one's files are there
        import onnxruntime

        return str(onnxruntime.__version__)

    def availability(self, device: str) -> Availability:
        """Return what can be built and run: both need the package and, on a GPU, its CUDA provider."""
        if importlib.util.find_spec("onnxruntime") is None:
            reason = "onnxruntime is not installed: pip install onnxruntime (onnxruntime-gpu for CUDA)"
            return Availability(build=reason, run=reason)
        import onnxruntime

        if PROVIDERS[device] not in onnxruntime.get_available_providers():
            reason = (
                f"this onnxruntime has no {PROVIDERS[device]}: pip uninstall onnxruntime onnxruntime-gpu, then "
                "pip install onnxruntime-gpu (both write the same folder)"
            )
            return Availability(build=reason, run=reason)
        return Availability()

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError for a build for another chip, and for a provider that the installed package does not have."""
        import onnxruntime

        super().check(plan)

        known = onnxruntime.get_available_providers()
        for provider in providers_of(plan):
            if provider not in known:
                raise UserError(f"engine.providers: this onnxruntime has no {provider}; it has {', '.join(known)}.")

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Optimise the graph at the plan's level and save it; see `builder.build`."""
        from harness.engines.onnxruntime.builder import build

        return build(plan, workdir, self.version())

    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable of a saved model; see `runtime.OnnxRuntimeExecutable`."""
        from harness.engines.onnxruntime.runtime import OnnxRuntimeExecutable

        return OnnxRuntimeExecutable(artifact, device)

    def take_away(self, artifact: Artifact, folder: Path) -> TakenAway:
        """Copy the optimised model: it runs where this release of ONNX Runtime has this provider, on such a chip."""
        from harness.engines.onnxruntime.runtime import provider_list

        for name in artifact.files:
            shutil.copyfile(artifact.path / name, folder / name)
        given = provider_list(artifact.plan)
        providers = [[each, {}] if isinstance(each, str) else list(each) for each in given]
        threads = int(dict(artifact.plan.options).get("threads", 0))
        return TakenAway(
            artifact.main_file,
            "onnx",
            f"onnxruntime {artifact.engine_version}",
            f"optimised by ONNX Runtime {artifact.engine_version} for {providers[0][0]} and this chip's instructions",
            {"threads": threads, "providers": providers, "optimise": False},
        )

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Profile a session of its own by ONNX Runtime's profiler, node by node."""
        from harness.engines.onnxruntime.profiler import profile_session

        return profile_session(artifact, device, batch_size)


ONNXRUNTIME = OnnxRuntimeEngine()
