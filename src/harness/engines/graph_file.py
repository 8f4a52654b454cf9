"""Read an ONNX file without following it anywhere: its weights lie in it, or in files of its own folder.

A model may name files with its weights ("external data"). One that names `../../etc/shadow` or a link would have
whatever lies there read in, so every name is looked at before anything is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.system.errors import CellError, first_line

if TYPE_CHECKING:
    import onnx


def load_graph(path: Path) -> onnx.ModelProto:
    """Return the model in `path` with its weights; raise CellError where it is none or leads out of its folder.

    A file that can't be read raises OSError.
    """
    from onnx.external_data_helper import load_external_data_for_model

    model = _checked(path)
    load_external_data_for_model(model, str(path.parent))
    return model


def check_graph_file(path: Path) -> None:
    """Raise CellError where `path` is no ONNX model or leads out of its folder; for loaders that are not ours."""
    _checked(path)


def _checked(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError, which is no ValueError
        raise CellError(f"{path.name} is no ONNX model: {first_line(error)[:200]}") from error
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location" and not _inside(path.parent, entry.value):
                raise CellError(f"{path.name}: weight {tensor.name!r} lies outside the model's folder: {entry.value!r}")
    return model


def _inside(folder: Path, location: str) -> bool:
    """Return whether a location is a plain relative path to something that is no link."""
    parts = PurePosixPath(location).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in location:
        return False
    steps = [folder.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return not any(step.is_symlink() for step in steps)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Return every tensor of a model, wherever it may stand."""
    yield from _of_graph(model.graph)
    for info in model.training_info:
        yield from _of_graph(info.initialization)
        yield from _of_graph(info.algorithm)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)
        for attribute in function.attribute_proto:
            yield from _of_attribute(attribute)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from _of_attribute(attribute)


def _of_attribute(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    for graph in (attribute.g, *attribute.graphs):
        yield from _of_graph(graph)
