"""Other people's packages that add a model, a technique or an engine: entry points, read without importing them.

Groups and what an entry names: docs/extending.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.system.errors import UserError

MODELS, ARCH, ENGINES = "harness.networks", "harness.techniques.arch", "harness.engines"


@cache
def found(group: str) -> dict[str, EntryPoint]:
    """Return the entries of a group by name, sorted; raise UserError where two packages use one name."""
    out: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda one: (one.name, one.value)):
        if entry.name in out and entry.value != out[entry.name].value:
            raise UserError(
                f"two packages register {entry.name!r} as {group}: {out[entry.name].value} and {entry.value}; "
                "uninstall one of them."
            )
        out[entry.name] = entry
    return out


def names(group: str, own: Collection[str]) -> tuple[str, ...]:
    """Return the names of a group; raise UserError for one that `own` (ours) has already."""
    for name, entry in found(group).items():
        if name in own:
            raise UserError(f"{_package(entry)} registers {name!r} as {group}, which is ours; it needs another name.")
        if not name.isidentifier():
            raise UserError(f"{_package(entry)} registers {name!r} as {group}; a name is letters, digits and _.")
    return tuple(found(group))


def load(group: str, name: str) -> Any:
    """Import and return what an entry names; raise UserError with the reason where that fails."""
    entry = found(group)[name]
    try:
        return entry.load()
    except Exception as error:  # somebody else's module may raise anything
        raise UserError(
            f"{name} of {_package(entry)} ({entry.value}) can't be imported: {type(error).__name__}: {error}"
        ) from error


def source_digest(model: str, techniques: Collection[str]) -> str:
    """Return the SHA-256 of the files that a model (`module:function`, or an entry) and techniques come from.

    "" where all of them are ours or a library's: their versions are known elsewhere.
    """
    modules = [model.partition(":")[0]] if ":" in model else []
    modules += [found(MODELS)[model].module] if model in found(MODELS) else []
    modules += [found(ARCH)[name].module for name in techniques if name in found(ARCH)]
    digest = hashlib.sha256()
    for name in modules:
        source = find_spec(name)
        if source is not None and source.origin is not None and Path(source.origin).is_file():
            digest.update(Path(source.origin).read_bytes())
    return digest.hexdigest() if modules else ""


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "a package"
