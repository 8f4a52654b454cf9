"""What each option means: the comment beside it in its dataclass, or what the engine that has it declares.

These are the only places where that is written down; `--help` and the page of options are made from them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.declared import engine_options
from harness.config.groups import HarnessConfig

# the end of an option's name -> its unit; the longest end counts
UNITS = {
    "_s": "s", "_ms": "ms", "_us": "µs", "_mb": "MiB", "_per_s": "1/s", "_gmacs": "GMACs", "image_size": "pixels",
    "resize": "pixels", "batch_size": "images", "batch_sizes": "images", "epochs": "epochs", "patience": "epochs",
    "_blocks": "blocks", "min_queries": "requests", "_iterations": "iterations", "threads": "threads",
}  # fmt: skip
SWITCH = "on where its group chooses the technique"


@dataclass(frozen=True)
class Option:
    """One option: its dotted name, the default of a bare command, and what its dataclass says of it."""

    name: str
    default: Any
    unit: str
    meaning: str

    @property
    def section(self) -> str:
        """The group that it belongs to, in `arch` and `hw` the technique; "" for an option of no group."""
        parts = self.name.split(".")
        return ".".join(parts[:2] if parts[0] in ("arch", "hw") else parts[:1]) if len(parts) > 1 else ""


def options(composed: Mapping[str, Any]) -> list[Option]:
    """Return every option of a composed config, given as plain dictionaries: by group, those of no group last."""
    found = list(_walk(composed, HarnessConfig(), ""))
    return sorted(found, key=lambda option: not option.section)


def meaning_of(section: str) -> str:
    """Return what is said of a group, or of a technique's options, as a whole; "" for nothing."""
    node: Any = HarnessConfig()
    for part in section.split(".") if section else ():
        node = getattr(node, part, None)
    says = type(node).__doc__ if is_dataclass(node) and section else ""
    return says if says and not says.startswith(f"{type(node).__name__}(") else ""  # a dataclass's own says nothing


def unit_of(name: str) -> str:
    """Return the unit that an option's name ends in, or nothing."""
    last = name.rpartition(".")[2]
    ends = [end for end in UNITS if last.endswith(end)]
    return UNITS[max(ends, key=len)] if ends else ""


def _walk(composed: Mapping[str, Any], node: Any, prefix: str) -> Iterator[Option]:
    says = _meanings(node)
    for name, value in composed.items():
        inner = getattr(node, name, None)
        if isinstance(value, Mapping):
            yield from _walk(value, inner, f"{prefix}{name}.")
        else:
            meaning = says.get(name) or (SWITCH if name == "enabled" else "")
            yield Option(f"{prefix}{name}", value, "" if isinstance(value, bool) else unit_of(name), meaning)


def _meanings(node: Any) -> Mapping[str, str]:
    """Return what is said of each field of a dataclass, its base classes' included."""
    if not is_dataclass(node):
        return {}
    kind: type[Any] = type(node)
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if file is not None and Path(file).suffix == ".py":
            found |= _comments(Path(file)).get(base.__name__, {})
    return {**found, **_declared()} if isinstance(node, type(HarnessConfig().engine)) else found


def _declared() -> dict[str, str]:
    """Return the meaning of the options that engines declare; engines that mean the same share a sentence."""
    found = {}
    for name, by_engine in engine_options().items():
        says: dict[str, list[str]] = {}
        for engine, option in by_engine.items():
            says.setdefault(option.meaning, []).append(engine)
        found[name] = "; ".join(f"{', '.join(engines)}: {meaning}" for meaning, engines in says.items())
    return found


@cache
def _comments(path: Path) -> dict[str, dict[str, str]]:
    """Return what a file says of its classes' fields: a comment at the end of the line, or on the lines before."""
    text = path.read_text()
    lines = text.splitlines()
    return {
        node.name: {
            field.target.id: _comment(lines, field)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    assert field.end_lineno is not None and field.end_col_offset is not None
    behind = lines[field.end_lineno - 1].encode()[field.end_col_offset :].decode().strip()
    before: list[str] = []
    number = field.lineno - 2
    while number >= 0 and lines[number].strip().startswith("#"):
        before.insert(0, lines[number].strip())
        number -= 1
    return " ".join(part.lstrip("# ") for part in [*before, behind] if part)
