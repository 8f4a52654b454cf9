"""Which sources decide what a module computes: its own file and all files that it imports, found by reading them.

They are read, not imported: an import within a function counts too, and two processes find the same files whatever each
of them has imported so far. An installed package is represented by its version and the checksums in its record.
"""

from __future__ import annotations

import ast
import hashlib
import json
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

OURS = __name__.partition(".")[0]
_package = Path(__file__).resolve().parents[1]  # where our own sources are read
_PROFILERS = "engines.profiling"
# parts of rooms that keys name by themselves, so that nothing leads into them from the rest of their room; what tables
# say of a metric is in no key
_SEPARATE = (
    "engines.export", _PROFILERS, "networks.data", "results.metrics", "results.why", "sweep.plan", "sweep.scenarios",
    "techniques.arch", "techniques.hw",
)  # fmt: skip
_pinned: dict[str, tuple[Any, _Source]] = {}


@dataclass(frozen=True)
class _Source:
    sha256: str
    imports: tuple[str, ...]


def source_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of the modules `names` and of all they import, without the paths they lie at.

    From our own modules only imports of the same room are followed: a key names the other rooms and the versions of
    packages that it depends on.
    """
    files: dict[str, str] = {}
    packages: set[str] = set()
    waiting = sorted(set(names))
    while waiting:
        name = waiting.pop()
        if name in files or _is_stdlib(name) or (path := _origin(name)) is None:
            continue
        if not _is_ours(name) and _is_installed(name, path):
            packages.add(name.partition(".")[0])
            continue
        found = _read(name, path)
        files[name] = found.sha256
        waiting += [imported for imported in found.imports if _is_followed(name, imported)]
        if not _is_ours(name):
            waiting += _parents(name)
    facts = [sorted(files.items()), [_facts(name) for name in sorted(packages)]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def is_source(name: str) -> bool:
    """Return whether a module is a user's source: not ours, not Python's, not of an installed package."""
    if _is_ours(name) or _is_stdlib(name):
        return False
    path = _origin(name)
    return path is None or not _is_installed(name, path)


def modules_of(package: str) -> list[str]:
    """Return the names of all modules below a package, and its own; of a plain module, its name alone."""
    origin = _origin(package)
    if origin is None and _is_ours(package):
        raise ValueError(f"{package} has no source: was it moved?")
    if origin is None or origin.name != "__init__.py":
        return [package]
    below = (path.relative_to(origin.parent).with_suffix("") for path in origin.parent.rglob("*.py"))
    return sorted({".".join([package, *(part for part in path.parts if part != "__init__")]) for path in below})


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == OURS


def _is_followed(by: str, name: str) -> bool:
    if _is_ours(by):
        return _is_ours(name) and _room(name) == _room(by)
    return not _is_ours(name)


def _room(name: str) -> str:
    """Return the room of one of our modules: the folder below the package, or one in it that keys name apart."""
    inner = name.partition(".")[2]
    if inner.startswith("engines.") and is_profiler(name):
        return _PROFILERS
    separate = (room for room in _SEPARATE if inner == room or inner.startswith(f"{room}."))
    return next(separate, inner.partition(".")[0])


def is_profiler(name: str) -> bool:
    """Return whether a module is an engine's profiler: it explains what was measured and changes no artifact."""
    return name.rpartition(".")[2] == "profiler"


def _is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]  # a package's __init__ runs before its modules


def _origin(name: str) -> Path | None:
    """Return the file of a module, None where it has none (built in, a namespace, not found)."""
    if _is_ours(name):
        place = _package.joinpath(*name.split(".")[1:])
        found = (path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file())
        return next(found, None)
    spec = _spec(name)
    origin = spec.origin if spec is not None else getattr(sys.modules.get(name), "__file__", None)
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def _spec(name: str) -> ModuleSpec | None:
    """Return a module's spec without importing its parents, as `importlib.util.find_spec` would."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        known: ModuleSpec | None = getattr(loaded, "__spec__", None)
        return known
    parent = _spec(name.rpartition(".")[0]) if "." in name else None
    if "." in name and (parent is None or parent.submodule_search_locations is None):
        return None
    path = list(parent.submodule_search_locations or ()) if parent is not None else None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a finder of somebody else's may raise anything
            continue
        if spec is not None:
            return spec
    return None


def _read(name: str, path: Path) -> _Source:
    """Return a file's digest and imports, read once for each time that its module is loaded.

    What runs is what was loaded: an edit while the process runs must not give the old network the new file's key.
    """
    loaded = OURS if _is_ours(name) else getattr(sys.modules.get(name), "__spec__", None)
    before = _pinned.get(str(path))
    if before is not None and loaded is not None and before[0] is loaded:
        return before[1]
    data = path.read_bytes()
    names = tuple(_imports(data, name, path.name == "__init__.py")) if path.suffix == ".py" else ()
    found = _Source(hashlib.sha256(data).hexdigest(), names)
    _pinned[str(path)] = (loaded, found)
    return found


def _imports(data: bytes, name: str, is_package: bool) -> Iterator[str]:
    """Give the absolute names of all that a source imports, wherever in it, also by a constant `import_module`."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            # of our own packages the modules count that are named, not the list of all in `__init__`
            if not (_is_ours(origin) and all(_origin(module) for module in inner)):
                yield origin
            yield from inner
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


@cache
def _installed_roots() -> tuple[Path, ...]:
    named = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = [Path(root) for root in (*named, *site.getsitepackages(), site.getusersitepackages()) if root]
    return tuple(dict.fromkeys([*found, *(path.resolve() for path in found)]))


def _is_installed(name: str, path: Path) -> bool:
    """Return whether a module's file was installed; an editable package's was not, its files lie elsewhere."""
    if any(place.is_relative_to(root) for place in (path, path.resolve()) for root in _installed_roots()):
        return True
    depth = name.count(".") + (path.name == "__init__.py")
    return _is_target(path.parents[min(depth, len(path.parents) - 1)])


@cache
def _is_target(folder: Path) -> bool:
    """Return whether a folder is where an installer put packages (`pip install --target`)."""
    return any(folder.glob("*.dist-info"))


@cache
def _facts(package: str) -> list[str]:
    """Return what tells two states of an installed package apart: version, and the checksums of its sources."""
    try:
        found = [metadata.distribution(package)]
    except (metadata.PackageNotFoundError, ValueError):  # its distribution has another name
        found = [metadata.distribution(name) for name in sorted(set(_distributions().get(package, ())))]
    out = [package]
    for distribution in found:
        lines = sorted(line for line in (distribution.read_text("RECORD") or "").splitlines() if ".py,sha256=" in line)
        out += [distribution.version, hashlib.sha256("\n".join(lines).encode()).hexdigest()]
    return out


@cache
def _distributions() -> Any:
    return metadata.packages_distributions()
