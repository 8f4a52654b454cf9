"""What building and loading share: the session's options and its execution providers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.base import BuildPlan, load_graph
from harness.system.errors import CellError, first_line

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def providers_of(plan: BuildPlan) -> tuple[str, ...]:
    """Return the execution providers a plan asks for, in order: its own option, else by device."""
    requested = dict(plan.options).get("providers")
    return tuple(str(requested).split(",")) if requested else (PROVIDERS[plan.device],)


def open_session(path: Path, options: onnxruntime.SessionOptions, plan: BuildPlan, stream: Any = None) -> Any:
    """Return the session of a model on the plan's providers; raise CellError with the reason why there is none.

    ONNX Runtime falls back to the CPU silently, so the provider in use is compared with the requested one.
    """
    import onnxruntime as ort

    requested = provider_list(plan, stream)
    if plan.device == "cuda":
        # cuDNN's front end logs every plan that it tries in vain; what fails in the end is raised all the same
        ort.set_default_logger_severity(4)
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from wherever pip or torch put them; without it they may not be found
    try:
        load_graph(path)
        session = ort.InferenceSession(str(path), options, providers=requested)
    except Exception as error:
        raise CellError(f"onnxruntime could not load: {first_line(error)}") from error
    wanted = requested[0] if isinstance(requested[0], str) else requested[0][0]
    in_use = session.get_providers()[0]
    if in_use != wanted:
        raise CellError(f"onnxruntime fell back to {in_use}: {wanted} could not be initialised here")
    return session


def session_options(plan: BuildPlan) -> onnxruntime.SessionOptions:
    """Return the options that building and loading share: one thread pool that never spins, no chatter."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: a warning a node about layouts would drown the table
    options.intra_op_num_threads = int(dict(plan.options).get("threads", 0))
    options.inter_op_num_threads = 1
    # a waiting worker must burn no CPU, or it would disturb the one that is being timed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def provider_list(plan: BuildPlan, stream: Any = None) -> list[str | tuple[str, dict[str, str]]]:
    """Return the plan's providers with the options each one gets; `stream` is a torch CUDA stream to run on."""
    out: list[str | tuple[str, dict[str, str]]] = []
    for name in providers_of(plan):
        if name == "CUDAExecutionProvider":
            options = {
                "use_tf32": str(int(plan.tf32)),
                "prefer_nhwc": str(int(bool(dict(plan.options).get("channels_last")))),
            }
            if stream is not None:
                options["user_compute_stream"] = str(stream.cuda_stream)
            out.append((name, options))
        else:
            out.append(name)
    return out
