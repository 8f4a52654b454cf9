"""Which choices each group has, and what each of them is: one phrase, written down where the choice itself is.

That is a comment in its file in `conf/`, else the docstring of what its name refers to, up to the first sentence's end.
"""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from harness.config import packages
from harness.system.errors import UserError

_FAMILIES = {"arch": packages.ARCH, "hw": packages.HW, "engine": packages.ENGINES, "scenario": packages.SCENARIOS}


def config_dir() -> Path:
    """Return the folder of the Hydra groups: inside an installed package, or at a checkout's root."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def groups() -> tuple[str, ...]:
    """Return the names of all groups."""
    return tuple(sorted(path.name for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra"))


def group_choices() -> dict[str, list[str]]:
    """Return the choices of every group: our files, and what other packages have registered.

    Hydra's own help copies the whole composed config once a group; this lists the same in a fraction of the time.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.object_type import ObjectType

    store = ConfigStore.instance()
    found = {}
    for group in groups():
        ours = {path.stem for path in (config_dir() / group).glob("*.yaml")}
        kind = store.get_type(group)
        registered = {name.removesuffix(".yaml") for name in store.list(group)} if kind is ObjectType.GROUP else set()
        found[group] = sorted(ours | registered)
    return found


@cache
def choice_meaning(group: str, choice: str) -> str:
    """Return what a choice is, in one phrase; "" where nothing says it."""
    file = config_dir() / group / f"{choice}.yaml"
    text = _comment(file.read_text()) if file.is_file() else ""
    if not text and group in _FAMILIES:
        entry = packages.registered(_FAMILIES[group]).get(choice)
        text = _docstring(_FAMILIES[group], entry) if entry is not None else ""
    text = re.sub(rf"^(`\w+=)?{re.escape(choice)}`?: ", "", text)
    first = re.split(r"\n\n|\. (?=[A-Za-z])", text)[0].replace("\n", " ").strip()
    return first if first.endswith("...") else first.rstrip(".:")


def _comment(text: str) -> str:
    """Return a file's first comment: of the lines that it begins with, without commands in them, or at a line's end."""
    head: list[str] = []
    for line in text.removeprefix("# @package _global_\n").splitlines():
        if not re.match(r"# \S", line):
            break
        head.append(line.removeprefix("# "))
    behind = re.search(r"^[^#\n]+ # (.+)$", text, re.MULTILINE)
    return " ".join(head) if head else behind[1] if behind else ""


def _docstring(family: str, entry: EntryPoint) -> str:
    """Return the docstring of a module or a class, of ours without importing it: some take seconds."""
    if entry.name not in packages.ours(family):
        with suppress(UserError):  # it says why it can't be imported when it is chosen
            return str(packages.load(family, entry.name).__doc__ or "")
        return ""
    spec = find_spec(entry.module)
    assert spec is not None and spec.origin is not None
    module = ast.parse(Path(spec.origin).read_text())
    classes = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == entry.attr)
    return ast.get_docstring(next(classes, module)) or ""
