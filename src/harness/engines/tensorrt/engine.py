"""The engine behind `engine=tensorrt` and `engine=tensorrt_rtx`: what it can do here, and its way in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import EngineOption, Range, at_least, one_of
from harness.engines.base import Artifact, Availability, BuildPlan, Engine, Option, TakenAway
from harness.engines.tensorrt import timing_cache
from harness.engines.tensorrt.flavour import Flavour, LocalGpu, local_gpu, missing_in_words, sm_text
from harness.engines.tensorrt.profiles import TILINGS, check_options
from harness.system.errors import UserError
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.hw.int8 import INT8, INT8_FP16
from harness.techniques.levels import FP32, TF32, BatchProfile, Capabilities, Levels

if TYPE_CHECKING:
    from harness.config import HarnessConfig
    from harness.engines.profiling import CellProfile
    from harness.engines.tensorrt.runtime import TensorRtExecutable

LEVELS = Range(lambda value: 0 <= value <= 5, "must be from 0 to 5")
PROFILES = Range(
    lambda profiles: all(len(sizes) == 3 and 1 <= sizes[0] <= sizes[1] <= sizes[2] for sizes in profiles),
    "each must be [min,opt,max], 1 or more, rising",
)


class TensorRtEngine(Engine):
    """TensorRT or TensorRT-RTX, by flavour. Holds nothing but the flavour."""

    # its builder steps down from a level by itself
    capabilities = Capabilities((FP32, TF32, FP16, BF16, INT8, INT8_FP16), fusion_options=("builder_level", "tiling"))
    options = (
        EngineOption("workspace_mb", int | None, "workspace of the builder; None: its own limit", range=at_least(1)),
        EngineOption("builder_level", int | None, "optimisation level, 0 to 5; None: by `fusion`", range=LEVELS),
        EngineOption(
            "tiling", str | None, "none, fast, moderate or full; None: full with `fusion`, else none",
            range=one_of(*TILINGS),
        ),
        EngineOption(
            "profiles", list[list[int]] | None, "dynamic batch: a [min, opt, max] each; None: one profile",
            range=PROFILES, needs="hw=dynamic_batching: a static batch has no ranges.",
            reads=lambda levels: not levels.batch.is_static,
        ),
        EngineOption(
            "timing_cache", bool,
            "tensorrt: use the kernel timings of earlier builds, and add to them; a replicated build has its own",
            True,
        ),
        EngineOption("timing_cache_pinned", bool, "tensorrt: a build that would have to time anything fails", False),
        EngineOption("channels_last", bool | None, "take images as NHWC; None: off"),
    )  # fmt: skip

    quick = ("fp16",)  # at its level of fusion even a tiny network builds for a minute

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.name = flavour.name
        times = not flavour.builds_without_gpu
        self.capabilities = replace(type(self).capabilities, autotunes=times, build_spread=flavour.build_spread)

    def settings(self, requested: Mapping[str, Any], levels: Levels, device: str) -> dict[str, Option]:
        """Return the requested builder settings, and whether its timings are cached or pinned."""
        out: dict[str, Option] = {
            name: requested[name] for name in ("workspace_mb", "builder_level", "tiling") if requested[name] is not None
        }
        if requested["channels_last"]:
            out["channels_last"] = True
        if requested["timing_cache_pinned"] and not requested["timing_cache"]:
            raise UserError("engine.timing_cache_pinned=true needs engine.timing_cache=true: drop one of the two.")
        if requested["timing_cache_pinned"]:
            out["timing_cache"] = "pinned"
        elif requested["timing_cache"] and self.flavour.timing_cache:
            out["timing_cache"] = "shared"
        return out

    def complete(self, plan: BuildPlan, requested: HarnessConfig, levels: Levels) -> BuildPlan:
        """Return the plan with the ranges of a dynamic batch, how long a level may take and where timings are kept."""
        group, place = requested.engine, requested.cache
        options = dict(plan.options) | {"build_limit_s": group.build_limit_s}  # may change the level reached
        ranges = () if levels.batch.is_static else group.option("profiles") or ()
        timings = Path(place.dir).absolute() / "timing"
        if levels.replica:  # with the timings of the first build it would be the first once more
            timings /= f"build{levels.replica}"
        if levels.instance:  # and an identity control's would be the reference's
            timings /= levels.instance.strip().replace(" ", "_")
        return replace(
            plan,
            options=tuple(sorted(options.items())),
            profiles=tuple(BatchProfile(*sizes) for sizes in ranges),
            timing_dir=str(timings) if "timing_cache" in options else "",
        )

    def version(self) -> str:
        """Return the package's version, e.g. "1.7.1.116"; raise UserError if it is not installed."""
        return str(self.flavour.module().__version__)

    def details(self) -> tuple[str, ...]:
        """Return where the package and its libraries are, and what this release lacks; without one, how to get it."""
        if self.flavour.missing() is not None:
            return self.flavour.how_to_install
        package = self.flavour.module()
        lacking = missing_in_words(package)
        return (
            f"package: {Path(str(package.__file__)).parent}",
            *(f"library: {path}" for path in _loaded_libraries(self.flavour.libraries)),
            *((f"this release has {lacking}",) if lacking else ()),
        )

    def availability(self, device: str) -> Availability:
        """Return what this engine can do on `device` on this machine; every reason is one line."""
        missing, gpu = self.flavour.missing(), local_gpu()
        if gpu is None:  # to be told first: without one, installing the package is in vain
            run: str | None = f"{self.name} needs an NVIDIA GPU to run, and none is visible here"
        else:
            run = missing or self._reason_not_to_run(device, gpu)
        return Availability(build=missing if self.flavour.builds_without_gpu else run, run=run)

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError if this plan can't be built: package, chip or option.

        What only the compiler can know (TensorRT-RTX refuses fp32 products on 7.5) is left to the build.
        """
        check_options(self.flavour, plan)
        self.target(plan)
        if timing_cache.is_pinned(plan):
            path = timing_cache.path_of(self.flavour, plan, local_gpu())
            if path is not None and not path.is_file():
                raise UserError(timing_cache.missing(path))

    def target(self, plan: BuildPlan) -> tuple[int, int]:
        """Return the compute capability to build for; raise UserError if that is impossible here."""
        reason = self.flavour.missing()
        if reason is not None:
            raise UserError(reason)
        gpu = local_gpu()
        requested = plan.compute_capability
        if self.flavour.builds_without_gpu:
            return self._chosen_chip(requested, gpu)
        if gpu is None:
            raise UserError(
                f"{self.name} needs an NVIDIA GPU to build, and none is visible here; tensorrt_rtx does not"
            )
        if requested is not None and requested != gpu.compute_capability:
            raise UserError(
                f"{self.name} builds only for the GPU that is here ({gpu.name}, {sm_text(gpu.compute_capability)}), "
                f"not for {sm_text(requested)}: leave engine.compute_capability out, or use engine=tensorrt_rtx"
            )
        return gpu.compute_capability

    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Build into `workdir`; raise CellError with the compiler's own reason."""
        from harness.engines.tensorrt.builder import build

        return build(self.flavour, plan, self.target(plan), workdir)

    def load(self, artifact: Artifact, device: str) -> TensorRtExecutable:
        """Return the executable; nothing touches the GPU before it is entered."""
        from harness.engines.tensorrt.runtime import TensorRtExecutable

        return TensorRtExecutable(self.flavour, artifact, device)

    def take_away(self, artifact: Artifact, folder: Path) -> TakenAway:
        """Copy the engine: it runs on the chip that it was built for, by the release that built it."""
        shutil.copyfile(artifact.path / artifact.main_file, folder / artifact.main_file)
        chip = f"compute capability {artifact.proof['compute_capability']}"
        built_for = f"{self.name} {artifact.engine_version}, {chip}"
        facts = {"package": self.flavour.name, "built_for": built_for}
        return TakenAway(artifact.main_file, "tensorrt", f"torch and {built_for}", f"built for {built_for}", facts)

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Profile a batch by TensorRT's layer profiler."""
        from harness.engines.tensorrt.profiler import profile_layers

        return profile_layers(executable, artifact.path, artifact.plan.graph.path, batch_size)

    def _chosen_chip(self, requested: tuple[int, int] | None, gpu: LocalGpu | None) -> tuple[int, int]:
        known = self.supported_chips()
        names = ", ".join(sm_text(chip) for chip in known)
        if requested is None and gpu is None:
            raise UserError(
                f"{self.name} has no GPU here to build for: set engine.compute_capability to one of {names}"
            )
        chip = requested or (gpu.compute_capability if gpu else (0, 0))
        if chip not in known:
            raise UserError(
                f"{self.flavour.title} does not support compute capability {sm_text(chip)}: it knows {names}; "
                f"elsewhere use engine=tensorrt"
            )
        return chip

    def supported_chips(self) -> list[tuple[int, int]]:
        """Return the compute capabilities the package names; empty if it names none (plain TensorRT)."""
        names = getattr(getattr(self.flavour.module(), "ComputeCapability", None), "__members__", {})
        numbers = [int(name[2:]) for name in names if name.startswith("SM")]
        return sorted(divmod(number, 10) for number in numbers)

    def _reason_not_to_run(self, device: str, gpu: LocalGpu) -> str | None:
        if device != "cuda":
            return f"{self.name} runs on NVIDIA GPUs only, not on device={device}: use engine.device=cuda"
        known = self.supported_chips()
        if known and gpu.compute_capability not in known:
            return (
                f"{self.name} does not run on {gpu.name} (compute capability {sm_text(gpu.compute_capability)}): it "
                f"supports {', '.join(sm_text(chip) for chip in known)}; use engine=tensorrt here"
            )
        if gpu.compute_capability < (7, 5):
            return (
                f"{self.name} needs compute capability 7.5 or newer, {gpu.name} has {sm_text(gpu.compute_capability)}"
            )
        return _missing_cuda_python()


def _loaded_libraries(names_begin: str) -> tuple[str, ...]:
    """Return the library files of this process whose names begin so, as Linux lists them; () elsewhere."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return ()
    files = {line.split(maxsplit=5)[5] for line in lines if f"/{names_begin}" in line}
    return tuple(sorted(files))


def _missing_cuda_python() -> str | None:
    from importlib.util import find_spec

    try:
        found = find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # no `cuda` namespace at all
        found = False
    return (
        None if found else "cuda-bindings is not installed, which captures TensorRT's work: pip install cuda-bindings"
    )
