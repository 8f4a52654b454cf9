"""Serialised engine -> engine in memory, with every reason why not found before or told after.

API: NVIDIA TensorRT documentation, "Python API: Runtime, ICudaEngine"; TensorRT-RTX adds `get_engine_validity`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.engines.base import Artifact, TensorSpec
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.gpu import LocalGpu, sm_text
from harness.engines.tensorrt.messages import logger_of, tail
from harness.system.errors import CellError


def check_fits(flavour: Flavour, artifact: Artifact, gpu: LocalGpu | None) -> None:
    """Raise CellError if this package or this GPU can't load the artifact: engines are tied to both."""
    version = str(flavour.module().__version__)
    if artifact.engine_version != version:
        raise CellError(
            f"this engine was built by {flavour.name} {artifact.engine_version}, installed is {version}: build it again"
        )
    if gpu is None:
        raise CellError(f"{flavour.name} needs an NVIDIA GPU to run, and none is visible here")
    built_for, here = str(artifact.proof["compute_capability"]), sm_text(gpu.compute_capability)
    if built_for != here:
        raise CellError(
            f"this engine was built for compute capability {built_for}, {gpu.name} has {here}: build for it"
        )


def deserialise(flavour: Flavour, serialised: bytes, errors: list[str]) -> tuple[Any, Any]:
    """Return runtime and engine (the runtime must outlive the engine); raise CellError with TensorRT's reason."""
    trt = flavour.module()
    runtime = trt.Runtime(logger_of(flavour)[0])
    if flavour.kernels_compiled_at_run:
        validity, diagnostics = runtime.get_engine_validity(serialised)
        if validity == trt.EngineValidity.INVALID:
            members = trt.EngineInvalidityDiagnostics.__members__.items()
            reasons = [name for name, member in members if int(diagnostics) & int(member)]
            raise CellError(f"{flavour.name} can't use this engine here: {', '.join(reasons) or tail(errors)}")
    engine = runtime.deserialize_cuda_engine(serialised)
    if engine is None:
        raise CellError(f"{flavour.name} could not deserialise the engine: {tail(errors)}")
    return runtime, engine


def check_interface(flavour: Flavour, engine: Any, specs: tuple[TensorSpec, ...], profiles: int) -> None:
    """Raise CellError if the engine's inputs, outputs and profiles are not the ones that were planned."""
    if int(engine.num_optimization_profiles) != profiles:
        raise CellError(f"the engine has {engine.num_optimization_profiles} optimisation profiles, planned: {profiles}")
    trt = flavour.module()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name for name in names}
    wanted = {spec.name: spec.dtype for spec in specs}
    if found != wanted:
        raise CellError(f"the engine's inputs and outputs are {found}, the graph's are {wanted}")


def channels_last(flavour: Flavour, engine: Any) -> frozenset[str]:
    """Return the inputs and outputs [N, C, H, W] that the engine reads and writes as NHWC."""
    formats = flavour.module().TensorFormat
    names = (engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
    return frozenset(name for name in names if engine.get_tensor_format(name) in (formats.HWC, formats.HWC8))
