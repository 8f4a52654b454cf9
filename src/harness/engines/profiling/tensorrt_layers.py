"""What TensorRT's layer profiler reports, by part of the network: a layer may hold many nodes of the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.engines.profiling.parts import part_of_names
from harness.engines.profiling.profile import Layer

MOVES = re.compile(r"^(Reformatting CopyNode|copy|reformat|.*\[(?:NoOp|Reformat)\])", re.IGNORECASE)
_NODE = re.compile(r"[A-Za-z0-9_.#]+")


def layers(times_ms: Mapping[str, float], known: Mapping[str, str]) -> list[Layer]:
    """Return the layers of a profile by part; a layer's name holds the names of all graph nodes fused into it.

    `known` maps nodes and tensors of the exported graph to their part. A layer whose nodes are of several parts spans.
    """
    return [
        Layer(name, part_of_names(_NODE.findall(name), known), ms, bool(MOVES.match(name)))
        for name, ms in times_ms.items()
    ]
