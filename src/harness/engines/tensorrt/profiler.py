"""What TensorRT's layer profiler reports, by part of the network: a layer may hold many nodes of the graph."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.engines.base import INSPECTOR_FILE
from harness.engines.profiling import RUNS, CellProfile, Layer, part_of_names, parts_of_graph, profile_of

MOVES = re.compile(r"^(Reformatting CopyNode|copy|reformat|.*\[(?:NoOp|Reformat)\])", re.IGNORECASE)
_NODE = re.compile(r"[A-Za-z0-9_.#]+")


def profile_layers(executable: Any, folder: Path, graph: Path, batch_size: int) -> CellProfile:
    """Return the profile of a batch of a loaded engine.

    `folder` is its artifact's, with the inspector's file; `graph` the exported network that it was built from.
    """
    times_ms, batch_ms = executable.layer_times_ms(batch_size, RUNS)
    found = layers(times_ms, parts_of_graph(graph), nodes_of_layers(folder / INSPECTOR_FILE))
    return profile_of("TensorRT layer profiler", found, batch_ms)


def layers(
    times_ms: Mapping[str, float], known: Mapping[str, str], nodes: Mapping[str, str] | None = None
) -> list[Layer]:
    """Return the layers of a profile by part; a layer's name holds the names of all graph nodes fused into it.

    `known` maps nodes and tensors of the exported graph to their part. A layer whose nodes are of several parts spans.
    `nodes` names the graph nodes of layers whose own names don't, as of generated kernels (`__myl_...`).
    """
    return [
        Layer(name, part_of_names(_NODE.findall(f"{name} {(nodes or {}).get(name, '')}"), known), ms, is_move(name))
        for name, ms in times_ms.items()
    ]


def is_move(name: str) -> bool:
    """Whether a layer computes nothing: it copies, or changes the layout."""
    return bool(MOVES.match(name))


def nodes_of_layers(account: Path) -> dict[str, str]:
    """Return what the inspector's account says of each layer's nodes, by the layer's name; {} without the file."""
    if not account.is_file():
        return {}
    found = json.loads(account.read_text()).get("Layers", [])
    return {entry["Name"]: str(entry.get("Metadata", "")) for entry in found if isinstance(entry, dict)}
