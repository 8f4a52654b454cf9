"""Build plan -> serialised engine: the builder's settings, the build, and the proof of both.

API: NVIDIA TensorRT documentation, "Python API: Core" (Builder, IBuilderConfig), and TensorRT-RTX documentation,
"Python API: Core" (the same names, plus compute capabilities).
"""

from __future__ import annotations

import gc
import json
import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from harness.engines.base import (
    INSPECTOR_FILE,
    Artifact,
    BuildPlan,
    kernels_timed_alone,
    report_attempt,
    report_status,
)  # fmt: skip
from harness.engines.tensorrt import network as networks
from harness.engines.tensorrt import profiles, timing_cache
from harness.engines.tensorrt.flavour import TILING, Flavour, local_gpu, missing_in_words, sm_text
from harness.engines.tensorrt.loading import deserialise, logger_of, tail
from harness.system.errors import CellError, UserError
from harness.techniques.levels import FP32

ENGINE_FILE = "model.engine"
Proof = dict[str, str | int | float]


def build(flavour: Flavour, plan: BuildPlan, target: tuple[int, int], workdir: Path) -> Artifact:
    """Build `plan` for a chip of compute capability `target` and write it to `workdir`; raise CellError."""
    logger, messages = logger_of(flavour)
    with messages.watch() as errors:
        try:
            serialised, proof, degraded = _build(flavour, plan, target, logger, errors)
        except (CellError, UserError):
            raise
        except Exception as error:  # the bindings raise TypeError, ValueError and RuntimeError alike
            raise CellError(f"{flavour.name} failed to build: {error}; {tail(errors)}") from error
        proof["inspector"] = inspect(flavour, serialised, target, workdir, errors)
        if (workdir / INSPECTOR_FILE).is_file() and "layers_in_precision" in proof:
            degraded = (*degraded, *_eight_bit_kernels(plan, proof, (workdir / INSPECTOR_FILE).read_text()))
    (workdir / ENGINE_FILE).write_bytes(serialised)
    proof["engine_bytes"] = len(serialised)
    return Artifact(
        plan=plan,
        path=workdir,
        main_file=ENGINE_FILE,
        engine_version=str(flavour.module().__version__),
        size_mb=len(serialised) / 1e6,
        proof=proof,
        degraded=degraded,
        resolved=f"builder level {proof['builder_level']}",
    )


def _build(
    flavour: Flavour, plan: BuildPlan, target: tuple[int, int], logger: Any, errors: list[str]
) -> tuple[bytes, Proof, tuple[str, ...]]:
    trt = flavour.module()
    report_attempt("start")  # a builder takes seconds to come up
    builder = trt.Builder(logger)
    if builder is None:
        raise CellError(f"{flavour.name} can't make a builder: {tail(errors)}")
    network, nested = networks.parse(flavour, builder, plan, logger, errors)
    proof: Proof = {
        "graph_nodes": plan.graph.nodes,
        "nested_concatenations": nested,
        "compute_capability": sm_text(target),
    }
    serialised, settings, failures = _at_the_highest_level(flavour, builder, network, plan, target, errors)
    proof |= {"profile": profiles.in_words(plan)} | networks.describe(network) | settings
    proof |= networks.eight_bits(plan, proof)
    degraded = (*failures, *networks.precision_shortfall(plan, proof), *_fusion_shortfall(flavour, plan))
    return serialised, proof, degraded


def _at_the_highest_level(
    flavour: Flavour, builder: Any, network: Any, plan: BuildPlan, target: tuple[int, int], errors: list[str]
) -> tuple[bytes, Proof, tuple[str, ...]]:
    """Return the engine of the first level that builds in time, its settings, and why higher ones did not."""
    timings = timing_cache.path_of(flavour, plan, local_gpu())
    pinned = timing_cache.is_pinned(plan)
    failures: list[str] = []
    for level in _levels(flavour, plan):
        config = configure(flavour, builder, plan, target, level)
        networks.set_batch(builder, network, config, plan)
        del errors[:]
        # with the timings of whoever had the GPU before
        with nullcontext() if flavour.builds_without_gpu else kernels_timed_alone():
            state = timing_cache.attach(flavour, config, timings, pinned) if timings else "none"
            host_memory, watch = _watched(flavour, builder, network, config, level, _limit_s(plan))
            if timings and not pinned:
                timing_cache.keep(config, timings)  # of a cancelled build too: what it has timed is true
            if host_memory is None:
                gc.collect()  # what a failed level held on the GPU must be free before anybody else tries
        if host_memory is not None:
            return bytes(host_memory), {"timing_cache": state} | _settings(flavour.module(), config), tuple(failures)
        if watch.cancelled:
            failures.append(f"builder level {level} did not end within engine.build_limit_s={_limit_s(plan):g}")
        elif pinned:  # another level times other kernels, and the reason may be that these are not there
            raise CellError(_miss(flavour, timings, tail(errors)))
        else:
            failures.append(f"builder level {level} failed: {tail(errors)}")
    if watch.cancelled:
        raise CellError(f"{flavour.name} was not built: {'; '.join(failures)}")
    raise CellError(_refusal(flavour, plan, target, tail(errors)))


def _watched(
    flavour: Flavour, builder: Any, network: Any, config: Any, level: int, limit_s: float
) -> tuple[Any, BuildWatch]:
    """Build under a watch that reports where the build is and cancels it past the limit; None where it failed."""
    report_attempt(f"level {level}")
    watch = BuildWatch(lambda text: report_status(f"level {level}: {text}"), limit_s)
    config.progress_monitor = monitor_of(flavour.module(), watch)
    return builder.build_serialized_network(network, config), watch


def configure(flavour: Flavour, builder: Any, plan: BuildPlan, target: tuple[int, int], level: int) -> Any:
    """Return a builder config with every setting of the plan made explicitly, whatever the package's default."""
    trt = flavour.module()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector names no layers
    config.builder_optimization_level = level
    if TILING.present(trt):
        config.tiling_optimization_level = getattr(trt.TilingOptimizationLevel, _tiling(plan).upper())
    if plan.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    if plan.cuda_graph and flavour.user_allocation_for_capture:
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    workspace_mb = _option(plan, "workspace_mb")
    if workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_mb) << 20)
    if flavour.builds_without_gpu:
        config.num_compute_capabilities = 1
        chip = getattr(trt.ComputeCapability, f"SM{target[0]}{target[1]}")
        if not config.set_compute_capability(chip, 0):
            raise CellError(f"{flavour.name} does not take {sm_text(target)} as a compute capability to build for")
    return config


def _levels(flavour: Flavour, plan: BuildPlan) -> tuple[int, ...]:
    requested = _option(plan, "builder_level")
    return flavour.levels[plan.fusion] if requested is None else (int(requested),)


def _tiling(plan: BuildPlan) -> str:
    return str(_option(plan, "tiling") or ("full" if plan.fusion == "max" else "none"))


def _settings(trt: Any, config: Any) -> Proof:
    """What the config holds after the build: read back, not repeated from the plan."""
    user_allocation = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    lacking = missing_in_words(trt)
    return {
        "builder_level": int(config.builder_optimization_level),
        "tiling_level": config.tiling_optimization_level.name if TILING.present(trt) else "none",
        **({"this_version_lacks": lacking} if lacking else {}),
        "profiles": int(config.num_optimization_profiles),  # 0: static, nothing to range over
        "workspace_mb": int(config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)) >> 20,
        "tf32": int(config.get_flag(trt.BuilderFlag.TF32)),
        "user_allocation": int(user_allocation is not None and config.get_flag(user_allocation)),
    }


def _fusion_shortfall(flavour: Flavour, plan: BuildPlan) -> tuple[str, ...]:
    if not flavour.levels_matter:
        text = f"{flavour.title} can't switch fusion off: builder level 0 gives the same engine as level 5"
        return (text,) if plan.fusion == "off" else ()
    level, tiling = _levels(flavour, plan)[0], _tiling(plan)
    usual = flavour.levels["max"][0]
    if plan.fusion == "max" and (level < usual or tiling != "full"):
        return (f"fusion below its usual level, as requested: builder level {level} of {usual}, tiling {tiling}",)
    return ()


def _limit_s(plan: BuildPlan) -> float:
    """Return how long a level may take; a plan that says nothing is not limited."""
    return float(_option(plan, "build_limit_s") or math.inf)


def _miss(flavour: Flavour, path: Path | None, reason: str) -> str:
    return (
        f"{flavour.name} failed to build with engine.timing_cache_pinned=true: {reason}. "
        f"If {path} lacks a kernel of this network, build once without it"
    )


def _refusal(flavour: Flavour, plan: BuildPlan, target: tuple[int, int], reason: str) -> str:
    text = (
        f"{flavour.name} refused to build for compute capability {sm_text(target)} in {plan.precision.name}: {reason}"
    )
    if plan.precision == FP32 and "FP32 GEMM is not supported" in reason:
        text += ". Use fp16 there (hw=fp16 with reference=eager), or engine=tensorrt"
    return text


def _option(plan: BuildPlan, name: str) -> str | int | float | bool | None:
    return dict(plan.options).get(name)


SHOWN_PHASES = 2
TELL_EVERY_S = 0.5  # a build of DenseNet121 completes 130,000 steps


class BuildWatch:
    """The phases of one build, its outermost first; thread-safe."""

    def __init__(
        self, tell: Callable[[str], None], limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` takes the text of where the build is; `limit_s` is counted from now."""
        self._tell = tell
        self._limit_s = limit_s
        self._clock = clock
        self._started = self._last_reported = clock()
        self._lock = threading.Lock()
        self._phases: dict[str, list[int]] = {}  # name -> steps completed, of how many; in the order they were entered
        self.cancelled = False  # it passed its limit

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside `parent` if there is one."""
        with self._lock:
            self._phases[name] = [0, steps]

    def step_complete(self, name: str, step: int) -> bool:
        """A step is over; return whether the build shall go on."""
        now = self._clock()
        with self._lock:
            if name in self._phases:
                self._phases[name][0] = step + 1
            self.cancelled = self.cancelled or now - self._started > self._limit_s
            due = now - self._last_reported >= TELL_EVERY_S
            if due:
                self._last_reported = now
                text = self._where()
        if due:
            self._tell(text)
        return not self.cancelled

    def phase_finish(self, name: str) -> None:
        """A phase is over; also one that was cancelled."""
        with self._lock:
            self._phases.pop(name, None)

    def _where(self) -> str:
        """Return the outermost phases that have steps to count, e.g. "Timing graph nodes 57 of 371".

        What is further inside ("Measuring tactic time 1 of 4") begins anew many times a second.
        """
        counted = [f"{name} {min(done, steps)} of {steps}" for name, (done, steps) in self._phases.items() if steps > 1]
        return ", ".join(counted[:SHOWN_PHASES]) or next(iter(self._phases), "")


def monitor_of(trt: Any, watch: BuildWatch) -> Any:
    """Return the `IProgressMonitor` that reports to `watch`; it must outlive the builder that it is given to."""
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.phase_finish(phase_name)

    return Monitor()


def inspect(flavour: Flavour, serialised: bytes, target: tuple[int, int], folder: Path, errors: list[str]) -> str:
    """Write the layers to `folder`, and return "kept", or in a few words why there are none.

    An account that can't be had takes nothing from the engine, so nothing is raised.
    """
    gpu = local_gpu()
    if gpu is None:
        return "none: no GPU where it was built"
    if gpu.compute_capability != target:
        return f"none: built for {sm_text(target)} on a GPU of {sm_text(gpu.compute_capability)}"
    try:
        text = _layers(flavour, serialised, errors)
        json.loads(text)
    except Exception as error:  # CellError, a binding's own, or a text that is not JSON
        return f"none: {error}"
    (folder / INSPECTOR_FILE).write_text(text)
    return "kept"


def _eight_bit_kernels(plan: BuildPlan, proof: Proof, account: str) -> tuple[str, ...]:
    """Count the kernels that read eight bits into the proof; return why these are fewer than were asked for.

    Several nodes of the graph may be one kernel, so the network's own count stays beside it.
    """
    rows = [row for row in json.loads(account).get("Layers", []) if isinstance(row, dict)]
    kernels = [row for row in rows if re.search(r"conv|gemm|matmul|fc", str(row.get("LayerType", "")), re.I)]
    eight = [row for row in kernels if "int8" in str(row.get("Inputs", [{}])[:1]).lower()]
    proof |= {"kernels_int8": len(eight), "kernels_weighted": len(kernels)}
    if kernels and len(eight) < plan.precision.min_share * len(kernels):
        return (f"{plan.precision.name} in {len(eight)} of {len(kernels)} kernels of convolutions and products only",)
    return ()


def _layers(flavour: Flavour, serialised: bytes, errors: list[str]) -> str:
    """Return the inspector's JSON; runtime, engine and inspector are freed on return, in the opposite order."""
    runtime, engine = deserialise(flavour, serialised, errors)
    inspector = engine.create_engine_inspector()
    try:
        return str(inspector.get_engine_information(flavour.module().LayerInformationFormat.JSON))
    finally:
        del inspector
        del engine
        del runtime
