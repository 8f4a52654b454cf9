"""Build plan -> serialised engine: the builder's settings, the build, and the proof of both.

API: NVIDIA TensorRT documentation, "Python API: Core" (Builder, IBuilderConfig), and TensorRT-RTX documentation,
"Python API: Core" (the same names, plus compute capabilities).
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from harness.engines.base import Artifact, BuildPlan
from harness.engines.tensorrt import network as networks
from harness.engines.tensorrt import timing_cache
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.gpu import sm_text
from harness.engines.tensorrt.messages import logger_of, tail
from harness.errors import CellError

ENGINE_FILE = "model.engine"
Proof = dict[str, str | int | float]


def build(flavour: Flavour, plan: BuildPlan, target: tuple[int, int], workdir: Path) -> Artifact:
    """Build `plan` for a chip of compute capability `target` and write it to `workdir`; raise CellError."""
    logger, messages = logger_of(flavour)
    with messages.watch() as errors:
        try:
            serialised, proof, degraded = _build(flavour, plan, target, logger, errors)
        except CellError:
            raise
        except Exception as error:  # the bindings raise TypeError, ValueError and RuntimeError alike
            raise CellError(f"{flavour.name} failed to build: {error}; {tail(errors)}") from error
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
    )


def _build(
    flavour: Flavour, plan: BuildPlan, target: tuple[int, int], logger: Any, errors: list[str]
) -> tuple[bytes, Proof, tuple[str, ...]]:
    trt = flavour.module()
    builder = trt.Builder(logger)
    if builder is None:
        raise CellError(f"{flavour.name} can't make a builder: {tail(errors)}")
    network = networks.parse(flavour, builder, plan, logger, errors)
    proof: Proof = {"graph_nodes": plan.graph.nodes, "compute_capability": sm_text(target)}
    failures: list[str] = []
    for level in flavour.levels[plan.fusion]:
        config = configure(flavour, builder, plan, target, level)
        proof["profile"] = networks.set_batch(builder, network, config, plan.batch)
        del errors[:]
        host_memory = builder.build_serialized_network(network, config)
        if host_memory is not None:
            break
        failures.append(f"builder level {level} failed: {tail(errors)}")
        gc.collect()  # what a failed level held on the GPU must be free before the next one tries
    else:
        raise CellError(_refusal(flavour, plan, target, tail(errors)))
    proof |= networks.describe(network) | _settings(trt, config)
    path = _option(plan, "timing_cache")
    if flavour.timing_cache and path:
        timing_cache.save(config, Path(str(path)))
    degraded = (*failures, *networks.precision_shortfall(plan, proof), *_fusion_shortfall(flavour, plan))
    return bytes(host_memory), proof, degraded


def configure(flavour: Flavour, builder: Any, plan: BuildPlan, target: tuple[int, int], level: int) -> Any:
    """Return a builder config with every setting of the plan made explicitly, whatever the package's default."""
    trt = flavour.module()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector names no layers
    config.builder_optimization_level = level
    if plan.fusion == "max" and hasattr(trt, "TilingOptimizationLevel"):
        config.tiling_optimization_level = trt.TilingOptimizationLevel.FULL
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
    path = _option(plan, "timing_cache")
    if flavour.timing_cache and path:
        timing_cache.use(config, Path(str(path)))
    return config


def _settings(trt: Any, config: Any) -> Proof:
    """What the config holds after the build: read back, not repeated from the plan."""
    tiling = getattr(config, "tiling_optimization_level", None)
    user_allocation = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    return {
        "builder_level": int(config.builder_optimization_level),
        "tiling_level": "unavailable" if tiling is None else tiling.name,
        "tf32": int(config.get_flag(trt.BuilderFlag.TF32)),
        "user_allocation": int(user_allocation is not None and config.get_flag(user_allocation)),
    }


def _fusion_shortfall(flavour: Flavour, plan: BuildPlan) -> tuple[str, ...]:
    if plan.fusion != "off" or flavour.levels_matter:
        return ()
    return (f"{flavour.title} can't switch fusion off: builder level 0 gives the same engine as level 5",)


def _refusal(flavour: Flavour, plan: BuildPlan, target: tuple[int, int], reason: str) -> str:
    text = f"{flavour.name} refused to build for compute capability {sm_text(target)} in {plan.precision}: {reason}"
    if plan.precision == "fp32" and "FP32 GEMM is not supported" in reason:
        text += ". Use fp16 there (hw=fp16 with reference=eager), or engine=tensorrt"
    return text


def _option(plan: BuildPlan, name: str) -> str | int | float | bool | None:
    return dict(plan.options).get(name)
