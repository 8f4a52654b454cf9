"""The table of faults in docs/reliability.md: every row names its tests, and every test it names is there."""

from __future__ import annotations

import ast
import re

import pytest

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.fixture(scope="module")
def rows(repository) -> list[str]:
    text = (repository / "docs" / "reliability.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("|---", "| fault"))]


def test_every_row_names_a_test(rows):
    assert len(rows) >= 25
    assert [row for row in rows if not NAMED.search(row)] == []


def test_every_named_test_exists(rows, repository):
    named = {found for row in rows for found in NAMED.findall(row)}
    there = set()
    for path in {path for path, _ in named if (repository / path).is_file()}:
        tree = ast.parse((repository / path).read_text())
        there |= {(path, node.name) for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sorted(named - there) == []
