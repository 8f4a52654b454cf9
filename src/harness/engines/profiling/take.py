"""Profile one cell in its worker, after everything is timed: each engine by its own profiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.engines.base import Executable
from harness.engines.profiling.profile import CellProfile, joined
from harness.system.errors import CellError

if TYPE_CHECKING:
    from harness.measure.cell import CellSpec

RUNS = 9  # batches under the profiler, after as many without

Profiler = Callable[[Any, Any, str, int], CellProfile]  # executable, its artifact, device, batch size


def take_profile(executables: Sequence[Executable], spec: CellSpec) -> CellProfile:
    """Return where a batch of this cell spends its time; an early exit's second stage with its survivors alone.

    Raises:
        CellError: the engine has no profiler that works here. Nothing that was measured is worth less for it.

    """
    sizes = [spec.batch_size]
    if spec.policy is not None:
        sizes.append(spec.policy.survivors(spec.batch_size))
    stages = []
    for executable, artifact, size in zip(executables, spec.artifacts, sizes, strict=True):
        if size > 0:
            profiler = _PROFILERS.get(artifact.plan.engine)
            if profiler is None:
                raise CellError(f"engine {artifact.plan.engine} has no profiler here")
            try:
                stages.append(profiler(executable, artifact, spec.device, size))
            except CellError:
                raise
            except Exception as error:  # profilers fail in ways of their own; the quartet is measured already
                raise CellError(
                    f"{artifact.plan.engine} could not be profiled: {type(error).__name__}: {error}"
                ) from error
    return joined(stages)


def _module(executable: Any, artifact: Any, device: str, batch_size: int) -> CellProfile:
    from harness.engines.profiling.torch_ops import profile_module

    return profile_module(lambda: executable.launch(batch_size), executable.module, (), device, RUNS)


def _compiled(executable: Any, artifact: Any, device: str, batch_size: int) -> CellProfile:
    from harness.engines.inductor.origins import read
    from harness.engines.profiling.inductor_kernels import parts_of_kernels
    from harness.engines.profiling.torch_ops import profile_module

    kernels = parts_of_kernels(read(artifact.path))
    return profile_module(lambda: executable.launch(batch_size), None, kernels, device, RUNS)


def _session(executable: Any, artifact: Any, device: str, batch_size: int) -> CellProfile:
    from harness.engines.profiling.onnxruntime_layers import profile_session

    return profile_session(artifact, device, batch_size, RUNS)


def _tensorrt(executable: Any, artifact: Any, device: str, batch_size: int) -> CellProfile:
    from harness.engines.profiling.parts import parts_of_graph
    from harness.engines.profiling.profile import profile_of
    from harness.engines.profiling.tensorrt_layers import layers

    times_ms, batch_ms = executable.layer_times_ms(batch_size, RUNS)
    known = parts_of_graph(artifact.plan.graph.path)
    return profile_of("TensorRT layer profiler", layers(times_ms, known), batch_ms)


_PROFILERS: Mapping[str, Profiler] = {
    "eager": _module,
    "inductor": _compiled,
    "onnxruntime": _session,
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt,
}
