"""Nobody outside an engine's own folder compares the name of an engine or of a precision: the contract is asked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import engines

# file -> why it may
ALLOWED = {"commands/train/command.py": "train.precision is an option of training, which has no engine"}


def names() -> set[str]:
    found = {name: engines.get(name) for name in engines.names()}
    precisions = (one.name for engine in found.values() for one in engine.capabilities.precisions)
    return {*found, *precisions, "bf16", "int8"}


def comparisons(tree: ast.AST, asked: set[str]) -> Iterator[int]:
    """Give the line of every ==, != and `in` with one of these names on a side, and of every `case` of one."""
    for node in ast.walk(tree):
        sides: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.match_case):
            sides = [one.value for one in ast.walk(node.pattern) if isinstance(one, ast.MatchValue)]
        parts = [part for side in sides for part in (side, *getattr(side, "elts", ()))]
        if any(isinstance(part, ast.Constant) and part.value in asked for part in parts):
            yield sides[0].lineno


def places(root: Path, asked: set[str]) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        where = path.relative_to(root)
        if where.parts[0] == "engines" and len(where.parts) > 2 and where.parts[1] in OWN_FOLDERS:
            continue
        found += [f"{where}:{line}" for line in comparisons(ast.parse(path.read_text()), asked)]
    return found


OWN_FOLDERS = {type(engines.get(name)).__module__.split(".")[2] for name in engines.names()}


def test_no_engine_and_no_precision_is_asked_for_by_its_name(repository):
    found = places(repository / "src" / "harness", names())
    assert [place for place in found if place.rpartition(":")[0] not in ALLOWED] == []
    assert {place.rpartition(":")[0] for place in found} == set(ALLOWED)  # no longer than needed


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("sweep/one.py", 'if engine == "eager":\n    pass', ["sweep/one.py:1"]),
        ("sweep/one.py", 'x = "fp16" != precision', ["sweep/one.py:1"]),
        ("sweep/one.py", 'x = engine not in ("", "inductor")', ["sweep/one.py:1"]),
        ("sweep/one.py", 'match engine:\n    case "eager":\n        pass', ["sweep/one.py:2"]),
        ("engines/build.py", 'x = engine == "eager"', ["engines/build.py:1"]),
        ("engines/eager/one.py", 'x = engine == "eager"', []),
        ("sweep/one.py", 'x = {"eager": 1}[engine]\ny = engine == other', []),
    ],
)
def test_the_search_finds_what_it_is_for(tmp_path, path, text, found):
    place = tmp_path / path
    place.parent.mkdir(parents=True)
    place.write_text(text)
    assert places(tmp_path, names()) == found
