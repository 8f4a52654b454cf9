"""The notebook in examples/, executed as a notebook is: cell by cell, in a main module that has no file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = r"""
import json, re, sys
cells = [cell for cell in json.load(open(sys.argv[1]))["cells"] if cell["cell_type"] == "code"]
space = sys.modules["__main__"].__dict__
for cell in cells:
    source = "".join(cell["source"]).replace('"budget_s": 20', '"budget_s": 3, "min_blocks": 5, "why": False')
    exec(compile(source, "<cell>", "exec"), space)
shown = re.sub('base64,[^"]*', "", space["sweep"]._repr_html_())
print(json.dumps({"status": space["sweep"].status, "html": shown, "rows": len(space["sweep"].table)}))
"""


@pytest.fixture(scope="module")
def executed(repository, plain_environment, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    environment = {**plain_environment, "HARNESS_CACHE": str(cache.root), "TMPDIR": str(folder)}
    arguments = [sys.executable, "-c", RUN, str(repository / "examples" / "interaction.ipynb")]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.minutes  # a whole sweep with its figures, in a process of its own
def test_the_notebook_answers_the_three_questions(executed):
    assert executed.returncode == 0, executed.stderr
    lines = executed.stdout.splitlines()
    assert any(line.startswith("architecture ") and "hardware " in line for line in lines)
    assert any(line.startswith("expected ") and "measured " in line for line in lines)
    assert any(line.startswith("factor ") for line in lines)
    found = json.loads(lines[-1])
    assert (found["status"], found["rows"]) == (0, 1)
    assert found["html"].count("<img ") == 2 and "grouped x fusion" in found["html"]


def test_the_notebook_is_committed_without_outputs(repository):
    cells = json.loads((repository / "examples" / "interaction.ipynb").read_text())["cells"]
    assert [
        cell for cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])
    ] == []
