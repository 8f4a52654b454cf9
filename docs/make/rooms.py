"""The rooms of src/harness and what they import of each other, read from the sources themselves.

Which rooms there are stands in one place: the first contract of `[tool.importlinter]` in pyproject.toml.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "harness"


@dataclass(frozen=True)
class Room:
    """One box of the diagram: a folder of `harness`, and what its docstring says it is."""

    name: str
    says: str


def rooms(repository: Path) -> tuple[Room, ...]:
    """Return the rooms, from the lowest, as the contract in pyproject.toml lists them."""
    contracts = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers" and one["containers"] == [PACKAGE])
    names = [layer for layer in reversed(layers) if "|" not in layer]  # the topmost layer: what a command line names
    return tuple(Room(name, _says(repository / "src" / PACKAGE / name / "__init__.py")) for name in names)


def _says(path: Path) -> str:
    """Return what a room's docstring says behind its name: "MLflow: the store, `load`." -> "the store, load"."""
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    return first.partition(": ")[2].rstrip(".").replace("`", "")


def modules(source: Path) -> dict[str, Path]:
    """Return every module below `source` (the folder of the package) by its name without the package."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(source: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return, for each pair of rooms (who, of whom), the pairs of modules behind it.

    Imports within functions count; those for type checkers alone don't.
    """
    known = modules(source)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for module, path in known.items():
        for imported in _imported(ast.parse(path.read_text()), known):
            pair = module.partition(".")[0], imported.partition(".")[0]
            if pair[0] != pair[1] and all((source / room).is_dir() for room in pair):
                found.setdefault(pair, []).append((module, imported))
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
