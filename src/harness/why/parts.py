"""Which part of the network a parameter, a tensor or a node belongs to: stem, dense blocks, transitions, head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from harness.why.profile import SPANNING, UNKNOWN

# of a parameter or module, without what stands before it: `features.` in a whole network, `trunk.` in a stage
_PARTS = (
    (re.compile(r"(^|\.)denseblock(\d+)(\.|$)"), "dense block {}"),
    (re.compile(r"(^|\.)transition(\d+)(\.|$)"), "transition {}"),
    (re.compile(r"(^|\.)head(\.|$)()"), "exit head"),
    (re.compile(r"(^|\.)(?:norm5|classifier)(\.|$)()"), "head"),
    (re.compile(r"(^|\.)(?:conv0|norm0|relu0|pool0)(\.|$)()"), "stem"),
)
# what ONNX Runtime puts around the name of a tensor or node that it makes something else of
_DECORATION = re.compile(r"^InsertedPrecisionFreeCast_|^node_|(?:_bn)?(?:_nchwc)?(?:_token_\d+)?(?:#\d+)?$")


def part_of_parameter(name: str) -> str | None:
    """Return the part of a parameter or module by its qualified name; None where the name tells nothing.

    Another network than a DenseNet is divided by its top-level modules.
    """
    for pattern, label in _PARTS:
        found = pattern.search(name)
        if found:
            return label.format(found[2])
    if name.startswith(("features", "trunk")):
        return None
    first, dot, _ = name.partition(".")
    return first if dot and first.isidentifier() else None


def order_of(part: str) -> tuple[float, int]:
    """Return a key that sorts parts as the network runs them; what is not a part of it comes last."""
    name, _, number = part.rpartition(" ")
    if name in ("dense block", "transition"):
        return float(number), int(name == "transition")
    return {"stem": (0.0, 0), "exit head": (90.0, 0), "head": (91.0, 0), SPANNING: (98.0, 0), UNKNOWN: (99.0, 0)}.get(
        part, (80.0, 0)
    )


@lru_cache(maxsize=32)
def parts_of_graph(path: Path) -> Mapping[str, str]:
    """Return the part of every node and tensor of an exported graph, by name.

    A node is of the part of its own parameters; without any, of the last part that its inputs come from, in the
    network's order: a concatenation belongs to its block, a pooling to what it pools.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return walk(graph, {})


def walk(graph: object, known: Mapping[str, str]) -> dict[str, str]:
    """Return the part of every node and tensor of a graph, by name; `known` names tell before parameters do."""
    found: dict[str, str] = {}
    weights = {weight.name for weight in graph.initializer}  # type: ignore[attr-defined]
    for node in graph.node:  # type: ignore[attr-defined]
        part = next((known[name] for name in _aliases((*node.output, node.name)) if name in known), None)
        if part is None:
            own = [part_of_parameter(name) for name in node.input if name in weights]
            part = next((one for one in own if one), None)
        if part is None:
            sources = [found[name] for name in node.input if name in found]
            part = max(sources, key=order_of, default=None)
        if part is not None:
            found |= {name: part for name in (*node.output, node.name) if name}
    return found


def part_of_names(names: Iterable[str], known: Mapping[str, str]) -> str:
    """Return the part that all names share; SPANNING where they are of several, UNKNOWN where none is known."""
    parts = {known[alias] for name in names for alias in _aliases([name]) if alias in known}
    return parts.pop() if len(parts) == 1 else SPANNING if parts else UNKNOWN


def _aliases(names: Iterable[str]) -> Iterable[str]:
    """Give each name, and what is left of it without an optimiser's decorations."""
    for name in names:
        if name:
            yield name
            bare = _DECORATION.sub("", _DECORATION.sub("", name))
            if bare != name:
                yield bare
