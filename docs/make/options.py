"""The page of options: every group, choice and option, read from conf/, the dataclasses and the composed config.

Defaults are those of a bare command, as `python -m harness --help` shows them; what an option means is what
`harness.config.described` reads.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from harness.config.described import Option, meaning_of, options


def page() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION, "## Groups", "", "Choose with `group=option`, several with `group=a,b` and `-m`.", ""]
    parts += ["| group | options |", "|---|---|", *_groups(), ""]
    parts += ["## Options", "", "Override with `name=value`. `-` as a default means that nothing is set (`null`).", ""]
    for section, members in groupby(all_options(), key=lambda option: option.section):
        says = meaning_of(section)
        parts += [f"### {section or 'all the rest'}", "", *([says, ""] if says else [])]
        parts += ["| option | default | unit | meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{option.name}` | `{_shown(option.default)}` | {option.unit} | {_cell(option.meaning)} |"
            for option in members
        ]
        parts.append("")
    return "\n".join(parts) + "\n"


def all_options() -> list[Option]:
    """Return every option, with the defaults of a bare command."""
    from harness.sweep.main import composed_options

    return options(composed_options([]))


def _groups() -> list[str]:
    from harness.sweep.choices import config_dir, group_choices

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
