"""The page of options: every group, choice and option, read from conf/, the dataclasses and the composed config.

Defaults are those of a bare command, as `python -m harness --help` shows them; what an option means is the comment
beside it in the dataclass, or what the engine that has it declares: the only places where that is written down.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

SOURCES = ("config/*.py", "techniques/arch/options.py", "techniques/hw/*.py")  # of the dataclasses
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
    says: str


@dataclass(frozen=True)
class _Described:
    says: str  # of the dataclass
    fields: Mapping[str, tuple[str, str]]  # name -> (type, comment)


def page(source: Path) -> str:
    """Return the page as Markdown; `source` is the package's folder."""
    parts = [INTRODUCTION, "## Groups", "", "Choose with `group=option`, several with `group=a,b` and `-m`.", ""]
    parts += ["| group | options |", "|---|---|", *_groups(), ""]
    parts += ["## Options", "", "Override with `name=value`. `-` as a default means that nothing is set (`null`).", ""]
    for section, members in groupby(_ordered(options(source)), key=lambda option: _section(option.name)):
        says = _class_of(section, source)
        parts += [f"### {section}", "", *([says, ""] if says else []), "| option | default | unit | meaning |",
                  "|---|---|---|---|"]  # fmt: skip
        parts += [f"| `{one.name}` | `{_shown(one.default)}` | {one.unit} | {_cell(one.says)} |" for one in members]
        parts.append("")
    return "\n".join(parts) + "\n"


def options(source: Path) -> list[Option]:
    """Return every option of the composed config, in the order of the dataclasses."""
    from omegaconf import OmegaConf

    from harness.sweep.command_line import compose_first

    described = _described(source)
    composed = compose_first([])
    ours = OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True)
    return list(_walk(plain, "HarnessConfig", "", described))


def unit_of(name: str) -> str:
    """Return the unit that an option's name ends in, or nothing."""
    last = name.rpartition(".")[2]
    ends = [end for end in UNITS if last.endswith(end)]
    return UNITS[max(ends, key=len)] if ends else ""


def _walk(node: Any, kind: str, prefix: str, described: Mapping[str, _Described]) -> Iterator[Option]:
    fields = described[kind].fields if kind in described else {}
    for name, value in node.items():
        field_kind, says = fields.get(name, ("", ""))
        if isinstance(value, dict):
            yield from _walk(value, field_kind, f"{prefix}{name}.", described)
        else:
            yield Option(f"{prefix}{name}", value, unit_of(name), says or (SWITCH if name == "enabled" else ""))


def _described(source: Path) -> dict[str, _Described]:
    """Return what is said of each dataclass's fields: by its source, and of engines' options by their declarations."""
    from harness.config import HarnessConfig, arch_off

    found = _commented(source)
    for kind, family in (("ArchConfig", arch_off()), ("HwConfig", HarnessConfig().hw)):
        classes = {name: (type(options).__name__, "") for name, options in vars(family).items()}
        found[kind] = _Described(found[kind].says, classes)
    group = found["EngineConfig"]
    found["EngineConfig"] = _Described(group.says, {**group.fields, **_declared()})
    return found


def _declared() -> dict[str, tuple[str, str]]:
    """Return type and meaning of the options that engines declare; engines that mean the same share a sentence."""
    from harness.config import engine_options

    found = {}
    for name, by_engine in engine_options().items():
        says: dict[str, list[str]] = {}
        for engine, option in by_engine.items():
            says.setdefault(option.meaning, []).append(engine)
        found[name] = ("", "; ".join(f"{', '.join(engines)}: {meaning}" for meaning, engines in says.items()))
    return found


def _commented(source: Path) -> dict[str, _Described]:
    """Return what the sources say of each dataclass: a comment at the end of a field's line, or on the lines before."""
    found = {}
    for path in (path for pattern in SOURCES for path in sorted(source.glob(pattern))):
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                fields = {}
                for one in node.body:
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                        fields[one.target.id] = (ast.unparse(one.annotation), _comment(lines, one))
                found[node.name] = _Described(ast.get_docstring(node) or "", fields)
    return found


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    assert field.end_lineno is not None and field.end_col_offset is not None
    behind = lines[field.end_lineno - 1][field.end_col_offset :].strip()
    before = []
    number = field.lineno - 2
    while number >= 0 and lines[number].strip().startswith("#"):
        before.insert(0, lines[number].strip())
        number -= 1
    return " ".join(part.lstrip("# ") for part in [*before, behind] if part)


def _ordered(found: list[Option]) -> list[Option]:
    """Return the options of no group behind all others; the rest stays as it is."""
    return sorted(found, key=lambda option: "." not in option.name)


def _section(name: str) -> str:
    parts = name.split(".")
    if len(parts) == 1:
        return "all the rest"
    return ".".join(parts[:2]) if parts[0] in ("arch", "hw") else parts[0]


def _class_of(section: str, source: Path) -> str:
    described, kind = _described(source), "HarnessConfig"
    for part in section.split("."):
        kind = described[kind].fields.get(part, ("", ""))[0] if kind in described else ""
    return described[kind].says if kind in described else ""


def _groups() -> list[str]:
    from harness.sweep.command_line import config_dir
    from harness.sweep.main import group_choices

    launchers = sorted(path.stem for path in (config_dir() / "hydra" / "launcher").glob("*.yaml"))
    choices = {**group_choices(), "hydra/launcher": ["basic", *launchers]}
    return [f"| `{group}` | {', '.join(f'`{name}`' for name in names)} |" for group, names in choices.items()]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


INTRODUCTION = """\
# Groups and options

Made from `conf/`, the dataclasses of `src/harness/config/` and what engines declare when this site is built: nothing
here is written by hand.
"""
