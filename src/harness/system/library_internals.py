"""Every private name of another library that harness uses, in one place, each behind a function of its own.

None of them has a public counterpart in the versions that `pyproject.toml` allows. A library may rename them in any
release: `tests/unit/system/test_library_internals.py` has a test for each, which fails when that happens, and one that
finds a private name anywhere else in `src`. Imports stand inside the functions: this file costs nothing to import.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def kill_pool(pool: ProcessPoolExecutor) -> None:
    """Kill a pool's processes at once; `ProcessPoolExecutor.kill_workers` does it from Python 3.14 on."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def resource_tracker_pid() -> int | None:
    """Return the process that multiprocessing cleans up with, which ends by itself; None if it was not started."""
    return getattr(resource_tracker._resource_tracker, "_pid", None)


def densenet_parts() -> tuple[Any, Any, Any]:
    """Return the classes of torchvision's dense blocks, of their layers, and of the transitions between them."""
    from torchvision.models.densenet import _DenseBlock, _DenseLayer, _Transition

    return _DenseBlock, _DenseLayer, _Transition


def script_module_text(module: torch.jit.ScriptModule) -> str:
    """Return code, attributes and submodules of a scripted module as text, without its parameters' values."""
    text: str = module._c.dump_to_str(True, True, False)
    return text


def dataset_fingerprint(dataset: Any) -> str:
    """Return what a `datasets.Dataset` identifies its content by."""
    return str(dataset._fingerprint)


def mark_dynamic_if_possible(tensor: torch.Tensor, dimension: int) -> None:
    """Let torch.compile treat one dimension as dynamic, without an error where the graph fixes it."""
    import torch._dynamo

    torch._dynamo.maybe_mark_dynamic(tensor, dimension)


def int8_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Write the product of two int8 matrices into an int32 one; torch has no public name for it but a quantised one."""
    import torch

    torch._int_mm(left, right, out=out)


def ahead_of_time_compiler() -> Callable[..., Any]:
    """Return AOTInductor's entry, which PyTorch documents: it writes a package of an exported program."""
    from torch._inductor import aoti_compile_and_package

    return aoti_compile_and_package


def inductor_compilers() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return Inductor's `compile_fx` (the backend itself) and the default of its argument `inner_compile`."""
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    return compile_fx, compile_fx_inner


def generated_kernels() -> int:
    """Return how many kernels Inductor has generated in this process."""
    from torch._inductor import metrics

    return int(metrics.generated_kernel_count)


def compiled_graphs() -> int:
    """Return how many graphs Inductor has compiled in this process because its cache did not have them."""
    from torch._dynamo.utils import counters

    return sum(counters["inductor"][f"fxgraph_cache_{outcome}"] for outcome in ("miss", "bypass"))


def child_slots(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module | None]]:
    """Return all names under which a module holds others, one that it holds twice under both."""
    return list(module._modules.items())


def parameter_slots(module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter | None]]:
    """Return all names under which a module holds parameters of its own, one that it holds twice under both."""
    return list(module._parameters.items())


def has_hooks(module: torch.nn.Module) -> bool:
    """Return whether something runs before or after a module's forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def registered_names(module: torch.nn.Module) -> list[str]:
    """Return the names of all parameters, buffers and modules that a module holds itself, those that are None too."""
    return [*module._parameters, *module._buffers, *module._modules]


def is_compiled(module: torch.nn.Module) -> bool:
    """Return whether torch.compile has wrapped a module, or replaced its call."""
    import torch._dynamo

    return isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None


def dispatch_mode() -> Any:
    """Return the class whose `__torch_dispatch__` sees every operator that runs while it is entered."""
    from torch.utils._python_dispatch import TorchDispatchMode

    return TorchDispatchMode
