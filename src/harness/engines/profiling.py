"""Where a batch spends its time, by part of the network: stem, dense blocks, transitions, head.

Each engine brings its own profiler (`Engine.profile`); here is what a profile is, and which part a name belongs to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engines import get
from harness.engines.base import Artifact, Executable
from harness.system.errors import CellError

if TYPE_CHECKING:
    import onnx

SPANNING = "spanning"  # kernels that an engine fused across parts
UNKNOWN = "unattributed"  # work whose part is not known
QUIET = 0.25  # quantile over batches that stands for all: whatever disturbs one only makes it slower
RUNS = 9  # batches under a profiler, after as many without
ENOUGH = 0.9  # of the time in parts that are known; below it the attribution is said to be incomplete

# of a parameter or module, without its prefix: `features.` in a whole network, `trunk.` in a stage
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


@dataclass(frozen=True)
class Layer:
    """One kernel, node or layer as an engine reports it, summed over a batch."""

    name: str
    part: str  # of the network, SPANNING or UNKNOWN
    ms: float
    moves: bool = False  # a reformat, copy or cast: it computes nothing


@dataclass(frozen=True)
class CellProfile:
    """Of one batch of one cell, under its engine's profiler."""

    source: str  # which profiler
    parts_ms: Mapping[str, float]  # in the network's order; SPANNING and UNKNOWN where there is such work
    batch_ms: float  # from enqueue to completion, the profiler running
    kernels: int  # kernels on a GPU, nodes or operations on a CPU
    moves: int  # of them reformats, copies and casts
    moves_ms: float

    @property
    def work_ms(self) -> float:
        """The time of all kernels or nodes: what is left of `batch_ms` is the host's."""
        return sum(self.parts_ms.values())

    @property
    def attributed(self) -> float:
        """The share of that time in known parts."""
        known = sum(ms for part, ms in self.parts_ms.items() if part not in (SPANNING, UNKNOWN))
        return known / self.work_ms if self.work_ms > 0 else 0.0


def profile_of(source: str, layers: Iterable[Layer], batch_ms: float) -> CellProfile:
    """Sum layers up; they come in the network's order."""
    layers = list(layers)
    parts: dict[str, float] = {}
    for layer in layers:
        parts[layer.part] = parts.get(layer.part, 0.0) + layer.ms
    moves = [layer for layer in layers if layer.moves]
    return CellProfile(source, parts, batch_ms, len(layers), len(moves), sum(layer.ms for layer in moves))


def joined(stages: Iterable[CellProfile]) -> CellProfile:
    """Return the stages of one cell, run one after the other, as one."""
    stages = list(stages)
    parts: dict[str, float] = {}
    for stage in stages:
        for part, ms in stage.parts_ms.items():
            parts[part] = parts.get(part, 0.0) + ms
    return CellProfile(
        stages[0].source,
        parts,
        sum(stage.batch_ms for stage in stages),
        sum(stage.kernels for stage in stages),
        sum(stage.moves for stage in stages),
        sum(stage.moves_ms for stage in stages),
    )


def take_profile(
    executables: Sequence[Executable], artifacts: Sequence[Artifact], sizes: Sequence[int], device: str
) -> CellProfile:
    """Return where a batch of one cell spends its time, stage by stage; `sizes` are the samples that reach each.

    Raises:
        CellError: the engine has no profiler that works here. Nothing that was measured is worth less for it.

    """
    stages = []
    for executable, artifact, size in zip(executables, artifacts, sizes, strict=True):
        if size > 0:
            try:
                stages.append(get(artifact.plan.engine).profile(executable, artifact, device, size))
            except CellError:
                raise
            except Exception as error:  # profilers fail in ways of their own; the quartet is measured already
                raise CellError(
                    f"{artifact.plan.engine} could not be profiled: {type(error).__name__}: {error}"
                ) from error
    return joined(stages)


def part_of_parameter(name: str) -> str | None:
    """Return the part of a parameter, or of a module ("name."), by its qualified name; None if that is not said.

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
    """Return the part of every node and tensor of a graph, by name; names in `known` decide before parameters do.

    A node is of the part of its own parameters. Without any, it is of the last part that its inputs come from, in the
    network's order: a concatenation belongs to its block, a pooling to what it pools. Parameters that several nodes
    share decide nothing (an exporter keeps equal ones once, and fresh normalisations are all equal): such a node is of
    the part that it works for.
    """
    parameter_of = _parameters(graph)
    users = Counter(name for node in graph.node for name in set(node.input) if name in parameter_of)
    assigned: dict[int, str] = {}
    shares: set[int] = set()
    for number, node in enumerate(graph.node):
        parts = {name: part_of_parameter(parameter_of[name]) for name in node.input if name in parameter_of}
        parameters = [name for name in node.input if parts.get(name)]
        part = next((known[name] for name in _aliases((*node.output, node.name)) if name in known), None)
        part = part or next((parts[name] for name in parameters if users[name] == 1), None)
        if part is not None:
            assigned[number] = part
        elif parameters:
            shares.add(number)
    ahead = _ahead(graph, assigned)
    found: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        sources = [found[name] for name in node.input if name in found]
        part = assigned.get(number) or (ahead.get(number) if number in shares else None)
        part = part or max(sources, key=order_of, default=None)
        if part is not None:
            found |= {name: part for name in (*node.output, node.name) if name}
    return found


def _parameters(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the parameter that each tensor is or is computed from alone, as a weight from its eight bits, by name."""
    out = {weight.name: weight.name for weight in graph.initializer}
    for node in graph.node:
        read = [name for name in node.input if name]
        if read and all(name in out for name in read):
            named = next((out[name] for name in read if part_of_parameter(out[name])), out[read[0]])
            out |= dict.fromkeys(node.output, named)
    return out


def _ahead(graph: onnx.GraphProto, assigned: Mapping[int, str]) -> dict[int, str]:
    """Return for each node the first part, in the network's order, of those that it and its dependants are assigned."""
    part_for: dict[str, str] = {}
    out: dict[int, str] = {}
    for number in reversed(range(len(graph.node))):
        node = graph.node[number]
        later = [part_for[name] for name in node.output if name in part_for]
        part = assigned.get(number) or min(later, key=order_of, default=None)
        if part is not None:
            out[number] = part
            for name in node.input:
                part_for[name] = min((part_for.get(name, part), part), key=order_of)
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
