"""What the pages show as Python runs as it stands there, on a sweep of one quartet that has little to say."""

from __future__ import annotations

import ast
import re
import textwrap

import numpy as np
import pytest

from harness.results.row import QuartetRecord
from harness.tracking.runs import finish, log_quartet, start_quartet, start_sweep

BLOCKS = re.compile(r"(?:^```python\n(.*?)^```$)|((?:^ {4}[^\n]*\n|^\n)+)", re.M | re.S)


def snippets(folder):
    """Return the blocks of Python of all pages that import something of ours, by page and line."""
    found = {}
    for page in [folder / "README.md", *sorted((folder / "docs").rglob("*.md"))]:
        text = page.read_text()
        for block in BLOCKS.finditer(text):
            code = textwrap.dedent(block[1] or block[2])
            if re.search(r"^(import|from) harness", code, re.M):
                found[f"{page.name}:{text[: block.start()].count(chr(10)) + 1}"] = code
    return found


def test_the_python_of_the_pages_runs(repository, store, tracking):
    sweep = start_sweep(store, "demo", {}, {})
    quartet = start_quartet(store, sweep, "grouped x fusion b8", {"arch": "grouped", "hw": "fusion"}, {})
    log_quartet(store, quartet, QuartetRecord(metrics={"interaction/factor": 1.0}))
    finish(store, quartet, "FINISHED")
    found = snippets(repository)
    assert any("harness.load" in code for code in found.values())
    assert any("estimate" in code for code in found.values())
    for place, code in found.items():
        blocks = np.random.default_rng(0).lognormal(0, 0.01, (20, 4))
        try:
            exec(compile(ast.parse(code), place, "exec"), {"blocks": blocks})
        except Exception as error:
            pytest.fail(f"{place}: {type(error).__name__}: {error}")
