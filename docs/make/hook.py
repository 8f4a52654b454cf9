"""MkDocs' hook: adds the pages that are made from the sources, the studies, and mends links that leave docs/."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

import commands
import options
import results
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "harness"
MADE = {"reference/options.md": lambda _: options.page(), "reference/commands.md": commands.page,
        "reference/results.md": results.page}  # fmt: skip
COPIED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")

for _setting in commands.SETTINGS:  # or their values would be shown as defaults
    os.environ.pop(_setting, None)


def on_config(config: Any) -> Any:
    """Add to the navigation the studies that mkdocs.yml does not name."""
    for rooms in (entry["Studies"] for entry in config.nav or () if "Studies" in entry):
        rooms += unnamed(studies(REPOSITORY), {page for entry in rooms for page in entry.values()})
    return config


def unnamed(pages: dict[str, str], named: set[str]) -> list[dict[str, str]]:
    """Return an entry for each of the studies' `pages` that is not `named`: its first heading and its name."""
    missing = {path: name for path, name in pages.items() if path.endswith(".md") and name not in named}
    return [{_heading(REPOSITORY / path): name} for path, name in missing.items()]


def _heading(page: Path) -> str:
    return page.read_text().partition("\n")[0].lstrip("# ")


def on_files(files: Files, config: Any) -> Files:
    """Add what is not below docs/, and what is made: there a page says how, for who reads the sources."""
    for name, make in MADE.items():
        if (stand_in := files.get_file_from_path(name)) is not None:
            files.remove(stand_in)
        files.append(File.generated(config, name, content=make(SOURCE)))
    for path, name in {**COPIED, **studies(REPOSITORY)}.items():
        if path.endswith(".md"):
            files.append(File.generated(config, name, content=(REPOSITORY / path).read_text()))
        else:
            files.append(File.generated(config, name, abs_src_path=str(REPOSITORY / path)))
    return files


def studies(repository: Path) -> dict[str, str]:
    """Return the studies' pages and figures and the calibration's table, by their path in the repository."""
    found = {}
    for folder in sorted((repository / "experiments").iterdir()):
        pages = [folder / name for name in ("README.md", "table.md") if (folder / name).is_file()]
        figures = sorted([*folder.glob("*.svg"), *folder.glob("*/*.svg")]) if pages else []
        for path in [*pages, *figures]:
            inside = path.relative_to(repository).as_posix()
            found[inside] = inside.replace("README.md", "index.md")
    return found


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links into the repository into links within the site; what the site has not is named, not linked."""
    back = {name: path for path, name in {**COPIED, **studies(REPOSITORY)}.items()}
    here = page.file.src_uri
    at = back.get(here, f"docs/{here}")  # where the page lies in the repository
    return LINK.sub(lambda found: _mended(found, at, here), markdown)


def _mended(found: re.Match[str], at: str, here: str) -> str:
    mark, text, target = found.groups()
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return found[0]
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(at), path))
    if not (REPOSITORY / inside).exists():
        return found[0]  # made, or wrong: then the strict build says so
    known = {**COPIED, **studies(REPOSITORY)}
    if (REPOSITORY / inside).is_dir():
        inside = f"{inside}/README.md"
    goal = inside.removeprefix("docs/") if inside.startswith("docs/") else known.get(inside)
    if goal is None:
        name = inside.removesuffix("/README.md")
        return text if text.startswith("`") else f"`{name}`" if text == name else f"{text} (`{name}`)"
    way = posixpath.relpath(goal, posixpath.dirname(here) or ".")
    return f"{mark}[{text}]({way}{'#' if anchor else ''}{anchor})"
