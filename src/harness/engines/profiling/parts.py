"""Which part of the network a parameter, a tensor or a node belongs to: stem, dense blocks, transitions, head."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engines.profiling.profile import SPANNING, UNKNOWN

if TYPE_CHECKING:
    import onnx

# of a parameter or module, without what stands before it: `features.` in a whole network, `trunk.` in a stage
_PARTS = (
    (re.compile(r"(^|\.)denseblock(\d+)(\.|$)"), "dense block {}"),
    (re.compile(r"(^|\.)transition(\d+)(\.|$)"), "transition {}"),
    (re.compile(r"(^|\.)encoder_layer_(\d+)(\.|$)"), "encoder layer {}"),
    (re.compile(r"(^|\.)heads(\.|$)()"), "head"),
    (re.compile(r"(^|\.)head(\.|$)()"), "exit head"),
    (re.compile(r"(^|\.)(?:norm5|classifier)(\.|$)()"), "head"),
    (re.compile(r"^(fc|encoder\.ln|tail\.norm)(\.|$)"), "head"),  # a transformer's last normalisation among them
    (re.compile(r"(^|\.)(?:conv0|norm0|relu0|pool0)(\.|$)()"), "stem"),
    (re.compile(r"(^|\.)(?:conv_proj|class_token|pos_embedding|tokens)(\.|$)()"), "stem"),
    (re.compile(r"^(?:trunk\.)?(conv1|bn1|conv_stem)(\.|$)"), "stem"),
    (re.compile(r"(^|\.)features\.?(\d+)(\.|$)"), "features {}"),
)
# what only holds parts; and what has no parameters, which belongs to what it works on, as in a graph
_NO_PART = re.compile(r"^(encoder|encoder\.layers|encoder\.dropout|relu|maxpool|avgpool|pool|dropout|flatten)\.$")
# what ONNX Runtime puts around the name of a tensor or node that it makes something else of
_DECORATION = re.compile(r"^InsertedPrecisionFreeCast_|^node_|(?:_bn)?(?:_nchwc)?(?:_token_\d+)?(?:#\d+)?$")


def part_of_parameter(name: str) -> str | None:
    """Return the part of a parameter, or of a module ("name."), by its qualified name; None where that tells nothing.

    Another network than a DenseNet or a ViT is divided by its top-level modules.
    """
    for pattern, label in _PARTS:
        found = pattern.search(name)
        if found:
            return label.format(found[2])
    name = re.sub(r"^(trunk|tail)\.", "", name)
    if _NO_PART.match(name) or name.startswith("features"):
        return None
    first, dot, _ = name.partition(".")
    return first if dot and first.isidentifier() else None


def order_of(part: str) -> tuple[float, int]:
    """Return a key that sorts parts as the network runs them; what is not a part of it comes last."""
    name, _, number = part.rpartition(" ")
    if name in ("dense block", "encoder layer", "features", "transition"):
        return float(number), int(name == "transition")
    return {"stem": (0.0, 0), "exit head": (90.0, 0), "head": (91.0, 0), SPANNING: (98.0, 0), UNKNOWN: (99.0, 0)}.get(
        part, (80.0, 0)
    )


@lru_cache(maxsize=32)
def parts_of_graph(path: Path) -> Mapping[str, str]:
    """Return the part of every node and tensor of an exported graph, by name."""
    import onnx

    return walk(onnx.load(path).graph, {})


def walk(graph: onnx.GraphProto, known: Mapping[str, str]) -> dict[str, str]:
    """Return the part of every node and tensor of a graph, by name; `known` names tell before parameters do.

    A node is of the part of its own parameters. Without any, it is of the last part that its inputs come from, in the
    network's order: a concatenation belongs to its block, a pooling to what it pools. Parameters that several nodes
    share tell nothing (an exporter keeps equal ones once, and fresh normalisations are all equal): such a node is of
    the part that it works for.
    """
    weights = {weight.name for weight in graph.initializer}
    users = Counter(name for node in graph.node for name in set(node.input) if name in weights)
    told: dict[int, str] = {}
    shares: set[int] = set()
    for number, node in enumerate(graph.node):
        own = [name for name in node.input if name in weights and part_of_parameter(name)]
        part = next((known[name] for name in _aliases((*node.output, node.name)) if name in known), None)
        part = part or next((part_of_parameter(name) for name in own if users[name] == 1), None)
        if part is not None:
            told[number] = part
        elif own:
            shares.add(number)
    ahead = _ahead(graph, told)
    found: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        sources = [found[name] for name in node.input if name in found]
        part = told.get(number) or (ahead.get(number) if number in shares else None)
        part = part or max(sources, key=order_of, default=None)
        if part is not None:
            found |= {name: part for name in (*node.output, node.name) if name}
    return found


def _ahead(graph: onnx.GraphProto, told: Mapping[int, str]) -> dict[int, str]:
    """Return for each node the first part, in the network's order, that it or what depends on it is told to be of."""
    wanted: dict[str, str] = {}
    out: dict[int, str] = {}
    for number in reversed(range(len(graph.node))):
        node = graph.node[number]
        later = [wanted[name] for name in node.output if name in wanted]
        part = told.get(number) or min(later, key=order_of, default=None)
        if part is not None:
            out[number] = part
            for name in node.input:
                wanted[name] = min((wanted.get(name, part), part), key=order_of)
    return out


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
