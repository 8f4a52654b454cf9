"""The rooms of src/harness and what they import of each other, read from the sources themselves.

A room of the diagram is what one step of a job needs: a folder, or some that belong together. A file that an earlier
room needs belongs to that one, wherever it lies: `analyse` and what explains a factor, to the report.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "harness"


@dataclass(frozen=True)
class Room:
    """One box of the diagram: the modules or packages it holds, below `harness`."""

    name: str
    says: str
    holds: tuple[str, ...]


ROOMS = (
    Room("ground", "errors, secrets, names, the machine", (
        "errors", "roles", "secrets", "environment", "external", "process")),
    Room("config", "every option, with its default", ("config",)),
    Room("models", "a network by name, its weights", ("models",)),
    Room("arch", "one file a technique: model to model", ("arch",)),
    Room("engines", "build, load, run; the artifact cache", ("engines", "export")),
    Room("hw", "one file a technique: levels of an engine", ("hw",)),
    Room("data", "images and labels", ("data", "finetuned")),
    Room("compose", "command line to typed configs, --help", ("compose",)),
    Room("stats", "pure functions on arrays", ("stats",)),
    Room("track", "MLflow: store, runs, load, outbox", ("track",)),
    Room("measure", "workers, turns, clocks, profiles, answers", (
        "measure", "why", "accuracy", "roofline", "terminal")),
    Room("scenarios", "LoadGen, batcher, server's loop", ("scenarios",)),
    Room("plan", "which cells, which artifacts", ("plan",)),
    Room("prepare", "export, build or fetch", ("prepare",)),
    Room("report", "table, analysis, page, comparison", (
        "report", "analyse", "why.explain", "why.details", "why.ceiling")),
    Room("record", "numbers to an MLflow row", ("record",)),
    Room("under_load", "a quartet under load, search, factor", ("under_load",)),
    Room("conduct", "a sweep, job by job, here or on a fleet", ("conduct", "sweep", "job", "run", "fleet", "__main__")),
    Room("commands", "doctor, capacity, train, ui", ("doctor", "capacity", "train", "ui")),
)  # fmt: skip


def modules(source: Path) -> dict[str, Path]:
    """Return every module below `source` (the folder of the package) by its name without the package."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def room_of(module: str) -> str | None:
    """Return the room that holds a module: the one that names the most of it; None where no room does."""
    prefixes = [".".join(module.split(".")[:length]) for length in range(module.count(".") + 1, 0, -1)]
    return next((room.name for prefix in prefixes for room in ROOMS if prefix in room.holds), None)


def imports(source: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return, for each pair of rooms (who, of whom), the pairs of modules behind it.

    Imports within functions count; those for type checkers alone don't.
    """
    known = modules(source)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for module, path in known.items():
        for imported in _imported(ast.parse(path.read_text()), known):
            pair = room_of(module), room_of(imported)
            if None not in pair and pair[0] != pair[1]:
                found.setdefault(pair, []).append((module, imported))  # type: ignore[arg-type]
    return found


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no longer way through other arrows says already (no cycles: the transitive reduction)."""
    targets: dict[str, set[str]] = {}
    for start, end in edges:
        targets.setdefault(start, set()).add(end)
    return {(start, end) for start, end in edges
            if not any(reachable(other, targets) >= {end} for other in targets[start] - {end})}  # fmt: skip


def reachable(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    """Return all that can be reached from `start`."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for end in targets.get(todo.pop(), set()) - seen:
            seen.add(end)
            todo.append(end)
    return seen


def _imported(tree: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    for node in _run(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == PACKAGE:
                yield from ([inner] if inner in known else [inner.rpartition(".")[0]] if "." in inner else [])


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what is run: all but the body of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child)
