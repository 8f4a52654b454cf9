"""nn.Module -> ONNX: one export a stage with a dynamic batch, checked, in the requested precision, cached.

The batch is pinned later by the engine that wants it static, so that all cells of an architecture share one
export. A precision's own module puts it into the graph: the one route that serves
TensorRT 10, 11, RTX and ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.sources import source_digest
from harness.engines.base import Graph, load_graph
from harness.networks.inputs import TensorSpec
from harness.networks.own_code import reason
from harness.system.cache import Cache, key_of
from harness.system.errors import CellError, first_line, kind_and_first_line, root_cause
from harness.system.files import temporaries_in
from harness.techniques.levels import FP32, Calibration, Precision

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

OPSET = 18  # the newest that TensorRT-RTX and ONNX Runtime both take for all models tried
MAX_BATCH = 4096
MODEL_FILE = "model.onnx"


class InvalidGraph(Exception):
    """A graph that ONNX's own checker refuses."""


@dataclass(frozen=True)
class ExportRequest:
    """One stage of a network to export."""

    inputs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    precision: Precision = FP32
    fp32_io: tuple[str, ...] = ()  # inputs and outputs that stay fp32 in a converted graph
    by_name: bool = False  # the module is called with its inputs by name, else in their order
    calibration: Calibration | None = None  # of a precision of integers
    calibrated_on: str = ""  # what tells the inputs of the calibration from others; "" without one


def export(
    module: nn.Module,
    identity: str,
    request: ExportRequest,
    cache: Cache,
    inputs: Callable[[], Mapping[str, np.ndarray]] | None = None,
) -> tuple[Graph, float, bool]:
    """Return the exported graph, the seconds its making took, and whether it came from the cache.

    `identity` is that of the network whose stage `module` is, weights included (`Identity.exact`). `inputs` gives what
    a calibration is done on, by input [N, ...], and is called where that is not cached. Raises CellError with the
    exporter's reason in one line.
    """
    key = export_key(module, identity, request)
    if request.precision.converter:
        fp32 = replace(request, precision=FP32, fp32_io=(), calibration=None, calibrated_on="")
        full, full_s, full_hit = export(module, identity, fp32, cache)
        entry = cache.fetch_or_make("export", key, lambda folder: _write_converted(full, request, folder, inputs))
        return _graph(entry.path, entry.meta), full_s + entry.seconds, full_hit and entry.hit

    entry = cache.fetch_or_make("export", key, lambda folder: _write_fp32(module, request, folder))
    return _graph(entry.path, entry.meta), entry.seconds, entry.hit


def export_key(module: nn.Module, identity: str, request: ExportRequest) -> str:
    """Return the SHA-256 of all that decides what an export holds: the network, the request, and who exports."""
    return key_of(
        {
            "network": identity,
            "stage": [f"{name} {type(part).__qualname__}" for name, part in module.named_modules()],
            "request": asdict(request),
            "versions": [version(name) for name in ("torch", "onnx", "onnxscript", "onnxconverter-common")],
            "sources": source_digest([__name__, *filter(None, [request.precision.converter.partition(":")[0]])]),
        }
    )


def _dynamic(argument: Any, batch: Any) -> Any:
    """Return the dynamic dimension of each tensor of a call's argument, `*args` and `**named` included."""
    if isinstance(argument, tuple):
        return tuple(_dynamic(value, batch) for value in argument)
    if isinstance(argument, dict):
        return {name: _dynamic(value, batch) for name, value in argument.items()}
    return {0: batch}


def _write_fp32(module: nn.Module, request: ExportRequest, folder: Path) -> Mapping[str, Any]:
    import torch
    from torch.export import Dim

    values = [torch.zeros(2, *spec.shape[1:], dtype=getattr(torch, spec.dtype)) for spec in request.inputs]
    named = dict(zip((spec.name for spec in request.inputs), values, strict=True)) if request.by_name else {}
    given = () if request.by_name else tuple(values)
    batch = Dim("batch", min=1, max=MAX_BATCH)
    try:
        arguments = inspect.signature(module.forward).bind(*given, **named).arguments
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                module,
                given,
                kwargs=named,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                dynamic_shapes={name: _dynamic(value, batch) for name, value in arguments.items()},
                input_names=[spec.name for spec in request.inputs],
                output_names=list(request.output_names),
                verbose=False,
            )
    except Exception as error:
        raise CellError(f"export to ONNX failed: {reason(root_cause(error))}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    try:
        return _save(model, request, folder)
    except InvalidGraph as error:
        raise CellError(f"export to ONNX gives an invalid graph: {first_line(error)}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what torch logs, prints and warns of inside from the terminal: pages for each way that it tries.

    The last cause is in the error that it raises.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_converted(
    full: Graph, request: ExportRequest, folder: Path, inputs: Callable[[], Mapping[str, np.ndarray]] | None
) -> Mapping[str, Any]:
    precision = request.precision
    module, _, function = precision.converter.partition(":")
    calibrated = () if request.calibration is None or inputs is None else (request.calibration, inputs())
    try:
        convert = getattr(import_module(module), function or "convert")
        with temporaries_in(folder):  # a calibration writes whole graphs, and may be killed
            converted = convert(load_graph(full.path), request.fp32_io, *calibrated)
    except CellError as error:
        raise CellError(f"conversion to {precision.name} failed: {error}") from error
    except Exception as error:
        raise CellError(f"conversion to {precision.name} failed: {kind_and_first_line(error)}") from error
    try:
        return _save(converted, request, folder)
    except InvalidGraph as error:
        raise CellError(f"conversion to {precision.name} gives an invalid graph: {first_line(error)}") from error


def _save(model: onnx.ModelProto, request: ExportRequest, folder: Path) -> Mapping[str, Any]:
    """Strip what holds paths and line numbers, check, write; return the notes that make a `Graph`."""
    import onnx
    from onnx import helper

    del model.metadata_props[:]
    model.doc_string = ""
    for holder in (
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    ):
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
        holder.doc_string = ""
    try:
        onnx.checker.check_model(model, full_check=True)  # types of all values too, which an engine would stumble over
    except Exception as error:
        raise InvalidGraph(str(error)) from error

    def spec(value: onnx.ValueInfoProto) -> list[Any]:
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        return [value.name, dims, str(dtype)]

    data = model.SerializeToString(deterministic=True)
    (folder / MODEL_FILE).write_bytes(data)
    expected_inputs = [spec.name for spec in request.inputs]
    for what, values, expected in (
        ("inputs", model.graph.input, expected_inputs),
        ("outputs", model.graph.output, list(request.output_names)),
    ):
        names = [value.name for value in values]
        if names != expected:
            raise CellError(f"export to ONNX changed the {what}: requested {expected}, got {names}")
    inputs, outputs = ([spec(value) for value in values] for values in (model.graph.input, model.graph.output))
    for value_name, dims, _ in (*inputs, *outputs):
        if dims[:1] != [-1]:
            raise CellError(f"export to ONNX fixed the batch: {value_name} is {dims}; is its size written in forward?")
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": inputs,
        "outputs": outputs,
        "nodes": len(model.graph.node),
    }


def _graph(folder: Path, meta: Mapping[str, Any]) -> Graph:
    def specs(rows: list[Any]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, tuple(dims), dtype) for name, dims, dtype in rows)

    return Graph(
        path=folder / MODEL_FILE,
        sha256=meta["sha256"],
        inputs=specs(meta["inputs"]),
        outputs=specs(meta["outputs"]),
        nodes=int(meta["nodes"]),
    )
