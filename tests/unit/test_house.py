"""One idea a file, under a name that says it: no file is long, most are short, none is a drawer for odds and ends."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

MOST_LINES, MEDIAN_LINES = 300, 100
DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}


def lengths(root: Path, *folders: str) -> dict[str, int]:
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    return {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in paths}


def too_long(root: Path) -> list[str]:
    found = lengths(root, "src", "tests", "experiments")
    return [f"{path}: {lines}" for path, lines in found.items() if lines > MOST_LINES]


def drawers(root: Path) -> list[str]:
    names = {path: set(Path(path).with_suffix("").parts) for path in lengths(root, "src", "tests", "experiments")}
    words = {path: {word for name in found for word in name.split("_")} for path, found in names.items()}
    return [path for path, found in words.items() if found & DRAWERS]


def test_no_file_is_over_three_hundred_lines_and_half_are_below_a_hundred(repository):
    assert too_long(repository) == []
    assert median(lengths(repository, "src").values()) <= MEDIAN_LINES


def test_no_file_or_folder_is_a_drawer(repository):
    assert drawers(repository) == []


@pytest.mark.parametrize(
    ("path", "lines", "found"),
    [
        ("src/harness/one.py", 300, ([], [])),
        ("src/harness/one.py", 301, (["src/harness/one.py: 301"], [])),
        ("tests/unit/graph_helpers.py", 1, ([], ["tests/unit/graph_helpers.py"])),
        ("experiments/common/one.py", 1, ([], ["experiments/common/one.py"])),
    ],
)
def test_the_search_finds_what_it_is_for(tmp_path, path, lines, found):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("\n" * lines)
    assert (too_long(tmp_path), drawers(tmp_path)) == found
