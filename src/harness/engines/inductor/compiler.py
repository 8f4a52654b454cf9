"""Compile a stage with torch.compile, save the portable cache, and start from it again.

Which modules of the network each kernel that Inductor generated comes from is kept beside the compiled code: Inductor's
provenance tracking names, for every kernel in the order of its calls, the operations of the graph that it computes:
https://docs.pytorch.org/docs/stable/torch.compiler_inductor_provenance.html. Dynamo's graph names the
module of each operation. Both are known only while compiling; a worker that starts from the cache reads them here.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch

from harness.engines.base import Artifact, BuildPlan, kernels_timed_alone
from harness.engines.eager.rebuild import RECIPE_FILE, rebuilt_stage
from harness.engines.eager.runtime import ModuleExecutable
from harness.engines.inductor.lowerings import LOWERINGS, lowerings_of
from harness.system.counts import counted
from harness.system.errors import CellError, UserError
from harness.system.library_internals import (
    ahead_of_time_compiler,
    compiled_graphs,
    generated_kernels,
    inductor_compilers,
    mark_dynamic_if_possible,
)
from harness.techniques.levels import BatchProfile

# it says on every CPU that there is no CUDA
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

CACHE_FILE, AHEAD_FILE = "inductor_cache.bin", "inductor.pt2"
# off: the scheduler may put no two nodes into one kernel, and no pattern or epilogue is merged. What lowering inlines
# before the scheduler sees it (a chain of element-wise operations) stays one kernel: Inductor has no switch for that.
STILL_FUSED = "Inductor can't switch all fusion off: chains of element-wise operations stay one kernel"
OPTIONS: dict[str, dict[str, Any]] = {
    "off": {"max_fusion_size": 1, "epilogue_fusion": False, "pattern_matcher": False},
    "default": {},
    "max": {"epilogue_fusion": True},
}
AUTOTUNE = {"max_autotune": True}
NAMED = {"cpp.enable_kernel_profile": True}  # on a CPU: a profiler sees the kernels; nothing where none runs


def build(plan: BuildPlan, workdir: Path, version: str) -> Artifact:
    """Compile by running every batch size that gets code of its own, in a fresh cache.

    Raises CellError with the compiler's reason. Proof and origins are those of the usual batch.
    """
    (workdir / RECIPE_FILE).write_text(plan.recipe)
    artifact = Artifact(plan, workdir, CACHE_FILE, version, size_mb=0.0)
    recorder = Recorder(_options(plan))
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch  # nothing left by an earlier build may be found
        try:
            with (
                kernels_timed_alone() if plan.device == "cuda" and tuned(plan) else nullcontext(),
                ModuleExecutable(artifact, plan.device, compile_for(plan, recorder)) as executable,
            ):
                executable.enqueue()
                executable.synchronize()
                proof, degraded = _lowered(plan, executable.module)
                kernels, kernel_count = recorder.origins(), generated_kernels()
                for size in separate_sizes(plan.batch):
                    executable.enqueue(size)
                executable.synchronize()
        except UserError:  # nobody let go of the GPU
            raise
        except Exception as error:
            raise CellError(f"torch.compile failed: {type(error).__name__}: {str(error).strip()[:200]}") from error
        saved = torch.compiler.save_cache_artifacts()
    if saved is None:
        raise CellError("torch.compile left no cache to keep: nothing was compiled")
    (workdir / CACHE_FILE).write_bytes(saved[0])
    write_origins(workdir, kernels)
    return Artifact(
        plan=plan,
        path=workdir,
        main_file=CACHE_FILE,
        engine_version=version,
        size_mb=len(saved[0]) / 1e6,
        proof={
            "nodes_before": plan.graph.nodes,
            "generated_kernels": kernel_count,
            "options": str(_options(plan)),
            "precision_in_use": plan.precision.name,
            "batch": "static" if plan.batch.is_static else "dynamic",
            **proof,
        },
        degraded=(*((STILL_FUSED,) if plan.fusion == "off" else ()), *degraded),
    )


def compile_ahead(artifact: Artifact, path: Path) -> None:
    """Write a package (.pt2) of a stage that torch alone loads, with the options of its build: AOTInductor.

    https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/torch.compiler_aot_inductor.html. Whatever the
    exporter or the compiler raises is raised.
    """
    plan = artifact.plan
    dtype, stage = getattr(torch, plan.precision.dtype), rebuilt_stage(artifact)
    if stage.inputs.make is not None:
        raise CellError("a package takes and gives tensors in an order, and this network may go by names")
    module = stage.module.to(plan.device, dtype)
    if dict(plan.options).get("channels_last"):
        module = module.to(memory_format=torch.channels_last)
    for name in lowerings_of(plan):
        LOWERINGS[name].apply(module)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = plan.tf32
    sizes = plan.batch
    shapes = [(max(2, sizes.opt_size) if not sizes.is_static else sizes.opt_size, *spec.shape[1:])
              for spec in plan.graph.inputs]  # fmt: skip
    inputs = tuple(torch.zeros(shape, dtype=dtype, device=plan.device) for shape in shapes)
    dynamic = None
    if not sizes.is_static:
        batch = torch.export.Dim("batch", min=sizes.min_size, max=sizes.max_size)
        dynamic = tuple({0: batch} for _ in inputs)
    with torch.inference_mode():
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
        ahead_of_time_compiler()(program, package_path=str(path), inductor_configs=_options(plan))


def separate_sizes(batch: BatchProfile) -> tuple[int, ...]:
    """Return the sizes that are compiled beside the usual one, so that no worker compiles them while it serves.

    However dynamic a batch is, Dynamo makes code of its own for a single sample: "0/1 specialization" in
    https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/torch.compiler_dynamic_shapes.html.
    """
    if batch.is_static or batch.min_size > 1:
        return ()
    return (batch.max_size,) if batch.opt_size == 1 else (1,)


def compile_for(plan: BuildPlan, backend: Recorder) -> Callable[[torch.nn.Module], Callable[..., Any]]:
    """Return what turns a module into its compiled form."""

    def transform(module: torch.nn.Module) -> Callable[..., Any]:
        for name in lowerings_of(plan):
            LOWERINGS[name].apply(module)
        compiled: Callable[..., Any] = torch.compile(
            module, fullgraph=True, dynamic=False if plan.batch.is_static else None, backend=backend
        )
        return compiled if plan.batch.is_static else _of_any_batch(compiled)

    return transform


def _of_any_batch(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compiled` with the batch alone dynamic; `dynamic=True` would leave height and width open as well."""

    def call(*inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        for tensor in (*inputs, *named.values()):
            mark_dynamic_if_possible(tensor, 0)
        return compiled(*inputs, **named)

    return call


def _lowered(plan: BuildPlan, module: torch.nn.Module) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the proof of the requested lowerings, and what they left to the compiler."""
    proof: dict[str, int] = {}
    degraded: tuple[str, ...] = ()
    for name in lowerings_of(plan):
        found, missed = LOWERINGS[name].proof(module)
        proof, degraded = {**proof, **found}, (*degraded, *missed)
    return proof, degraded


def _options(plan: BuildPlan) -> dict[str, Any]:
    """Return Inductor's settings for the level of a plan."""
    named = NAMED if plan.device == "cpu" else {}  # on a GPU kernels have names anyway
    return {**named, **OPTIONS[plan.fusion], **(AUTOTUNE if tuned(plan) else {})}


def tuned(plan: BuildPlan) -> bool:
    """Whether a build times kernels to choose among them."""
    return plan.fusion == "max" and bool(dict(plan.options).get("max_autotune"))


def warm_compile(artifact: Artifact) -> Callable[[torch.nn.Module], Callable[..., Any]]:
    """Return `compile_for` of an artifact's plan, with the artifact's cache loaded first."""
    torch.compiler.load_cache_artifacts((artifact.path / CACHE_FILE).read_bytes())
    return compile_for(artifact.plan, Recorder(_options(artifact.plan)))


class FromCache(ModuleExecutable):
    """A stage that starts from the compiler's cache, and says so where the usual batch had to be compiled again."""

    def __init__(self, artifact: Artifact, device: str) -> None:
        super().__init__(artifact, device, warm_compile(artifact))

    def __enter__(self) -> Self:
        """Load, and run a batch: only then the compiler looks into its cache."""
        before = compiled_graphs()
        super().__enter__()
        if not self._graphs:  # else a batch ran to be captured
            self.enqueue()
            self.synchronize()
        if anew := compiled_graphs() - before:
            reason = f"compiled anew while loading ({counted(anew, 'graph')}): the cache of the build did not fit"
            self.degraded = (*self.degraded, reason)
        return self


ORIGINS_FILE = "kernels.json"
TRACKING = {"trace.provenance_tracking_level": 1}  # a part of the compiler's cache key: the same in build and worker

Origins = Sequence[
    tuple[str, tuple[str, ...]]
]  # kernel, modules whose operations it computes; in the order of the calls


class Recorder:
    """A backend for torch.compile: Inductor with settings, which keeps what it says of its kernels."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {**TRACKING, **options}
        self._modules: dict[str, str] = {}  # of Dynamo's nodes
        self._mapping: dict[str, Any] = {}

    def __call__(self, graph: Any, inputs: Any) -> Any:
        """Compile as `torch.compile(..., backend="inductor", options=...)` does."""
        compile_fx, compile_fx_inner = inductor_compilers()

        def inner(*arguments: Any, **named: Any) -> Any:
            compiled = compile_fx_inner(*arguments, **named)
            self._mapping = json.loads(getattr(compiled, "inductor_provenance_mapping_str", None) or "{}")
            return compiled

        self._modules = {node.name: module for node in graph.graph.nodes if (module := _module_of(node.meta))}
        return compile_fx(graph, inputs, inner_compile=inner, config_patches=self._options)

    def origins(self) -> Origins:
        """Return the kernels of the last graph that was compiled; empty where the compiler said nothing."""
        before = self._mapping.get("postToPre", {})
        kernels = self._mapping.get("cppCodeToPost", {})
        out = []
        for handle, nodes in sorted(kernels.items(), key=lambda entry: int(entry[0].rpartition(":")[2])):
            sources = {self._modules[name] for node in nodes for name in before.get(node, ()) if name in self._modules}
            out.append((handle.rpartition(":")[0], tuple(sorted(sources))))
        return out


def _module_of(meta: Mapping[str, Any]) -> str | None:
    """Return the qualified name of the innermost module that an operation was called in; None in the network itself."""
    stack = list(meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).removeprefix("L['self']").removeprefix(".") or None if stack else None


def write_origins(folder: Path, origins: Origins) -> None:
    """Keep origins beside an artifact."""
    (folder / ORIGINS_FILE).write_text(json.dumps(origins))


def read_origins(folder: Path) -> Origins:
    """Return the origins that `write` saved."""
    return [(kernel, tuple(modules)) for kernel, modules in json.loads((folder / ORIGINS_FILE).read_text())]
