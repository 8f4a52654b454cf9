"""Serialised engine -> engine in memory, with every reason why it can't be loaded checked before or reported after.

What TensorRT says while it works is kept instead of printed, so that an error can quote the reason.
API: NVIDIA TensorRT documentation, "Python API: Runtime, ICudaEngine"; TensorRT-RTX adds `get_engine_validity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from harness.engines.base import Artifact
from harness.engines.tensorrt.flavour import Flavour, LocalGpu, sm_text
from harness.networks.inputs import TensorSpec
from harness.system.errors import CellError

# "... In compileGraph at /_src/optimizer/x.cpp:2012)" and "[pass.cpp:337: name] " are for NVIDIA's developers.
_SOURCE_TAIL = re.compile(r"\.?\s*In \S+ at /_src/\S+?:\d+\)?")
_CALL_HEAD = re.compile(r"^(\[?[\w:.]+\]?: )?Error Code \d+: ")
_PLACE = re.compile(r"\[[\w.]+:\d+: \w+\] ")


class Messages:
    """Errors of one package, delivered to whoever is watching at the time."""

    def __init__(self) -> None:
        self._watchers: list[list[str]] = []

    def add(self, severity: str, text: str) -> None:
        """Take one message (called from any of TensorRT's threads)."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            for watcher in self._watchers:
                watcher.append(text)

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Yield a list that fills with the error messages of the time inside."""
        seen: list[str] = []
        self._watchers.append(seen)
        try:
            yield seen
        finally:
            self._watchers = [watcher for watcher in self._watchers if watcher is not seen]


def tail(seen: list[str], lines: int = 2) -> str:
    """Return the last `lines` distinct messages on one line, without the names of NVIDIA's source files."""
    cleaned = [_clean(text) for text in seen if "catchCudaError" not in text.split("]")[0]]
    distinct = list(dict.fromkeys(text for text in cleaned if text))
    return "; ".join(distinct[-lines:]) or "it gave no reason"


def _clean(text: str) -> str:
    line = " ".join(text.split())
    line = _PLACE.sub("", _CALL_HEAD.sub("", _SOURCE_TAIL.sub("", line)))
    inner = re.fullmatch(r"[\w ]+ \((.+)", line)  # "Myelin (reason": the bracket closed in the cut tail
    line = inner.group(1) if inner else line
    return line.rstrip(") ." if line.count(")") > line.count("(") else " .")


@cache
def logger_of(flavour: Flavour) -> tuple[Any, Messages]:
    """Return the process's one logger for this package, and where its messages go.

    One for the life of the process, because TensorRT keeps the first logger that it is given, ignores later ones
    while any builder, runtime or engine lives, and crashes if that one is freed earlier ("How TensorRT
    Works", Error Handling and Logging).
    """
    trt = flavour.module()
    messages = Messages()
    base: Any = trt.ILogger

    class Logger(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)  # the documented way: super() does not reach the C++ part

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Logger(), messages


def check_fits(flavour: Flavour, artifact: Artifact, gpu: LocalGpu | None) -> None:
    """Raise CellError if this package or this GPU can't load the artifact: engines are tied to both."""
    version = str(flavour.module().__version__)
    if artifact.engine_version != version:
        raise CellError(
            f"this engine was built by {flavour.name} {artifact.engine_version}, but {version} is installed: "
            "build it again"
        )
    if gpu is None:
        raise CellError(f"{flavour.name} needs an NVIDIA GPU to run, and none is visible here")
    built_for, here = str(artifact.proof["compute_capability"]), sm_text(gpu.compute_capability)
    if built_for != here:
        raise CellError(
            f"this engine was built for compute capability {built_for}, but {gpu.name} has {here}: "
            "build it again for that"
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
    expected = {spec.name: spec.dtype for spec in specs}
    if found != expected:
        raise CellError(f"the engine's inputs and outputs are {found}, the graph's are {expected}")


def channels_last(flavour: Flavour, engine: Any) -> frozenset[str]:
    """Return the inputs and outputs [N, C, H, W] that the engine reads and writes as NHWC."""
    formats = flavour.module().TensorFormat
    names = (engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
    return frozenset(name for name in names if engine.get_tensor_format(name) in (formats.HWC, formats.HWC8))
