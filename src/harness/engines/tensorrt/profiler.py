"""What TensorRT's layer profiler reports, by part of the network: a layer may hold many nodes of the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.engines.profiling import RUNS, CellProfile, Layer, part_of_names, parts_of_graph, profile_of

MOVES = re.compile(r"^(Reformatting CopyNode|copy|reformat|.*\[(?:NoOp|Reformat)\])", re.IGNORECASE)
_NODE = re.compile(r"[A-Za-z0-9_.#]+")


def profile_layers(executable: Any, graph: Path, batch_size: int) -> CellProfile:
    """Return the profile of a batch of a loaded engine; `graph` is the exported network it was built from."""
    times_ms, batch_ms = executable.layer_times_ms(batch_size, RUNS)
    return profile_of("TensorRT layer profiler", layers(times_ms, parts_of_graph(graph)), batch_ms)


def layers(times_ms: Mapping[str, float], known: Mapping[str, str]) -> list[Layer]:
    """Return the layers of a profile by part; a layer's name holds the names of all graph nodes fused into it.

    `known` maps nodes and tensors of the exported graph to their part. A layer whose nodes are of several parts spans.
    """
    return [
        Layer(name, part_of_names(_NODE.findall(name), known), ms, bool(MOVES.match(name)))
        for name, ms in times_ms.items()
    ]
