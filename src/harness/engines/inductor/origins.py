"""Which modules of the network each kernel that Inductor generated comes from, kept beside the compiled code.

Inductor's provenance tracking names, for every kernel in the order of its calls, the operations of the graph that it
computes: https://docs.pytorch.org/docs/stable/torch.compiler_inductor_provenance.html. Dynamo's graph names the
module of each operation. Both are known while compiling alone; a worker that starts from the cache reads them here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.system.library_internals import inductor_compilers

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


def write(folder: Path, origins: Origins) -> None:
    """Keep origins beside an artifact."""
    (folder / ORIGINS_FILE).write_text(json.dumps(origins))


def read(folder: Path) -> Origins:
    """Return the origins that `write` saved."""
    return [(kernel, tuple(modules)) for kernel, modules in json.loads((folder / ORIGINS_FILE).read_text())]
