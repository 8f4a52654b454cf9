"""What an engine tells of its layers becomes an artifact of the quartet's run, by cell and stage."""

from __future__ import annotations

from dataclasses import replace

from harness.engines.base import INSPECTOR_FILE
from harness.results.record import begin_row


def test_an_account_of_the_layers_is_logged_for_the_cells_that_have_one(prepared, tmp_path):
    plan, cells = prepared("arch=early_exit", "hw=fp16")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / INSPECTOR_FILE).write_text('{"Layers": []}')
    told = tuple(replace(artifact, path=tmp_path / "engine") for artifact in cells["combined"].artifacts)
    cells = {**cells, "combined": replace(cells["combined"], artifacts=told)}
    row = begin_row(plan, cells, tmp_path)
    found = {name: path for name, path in row.artifacts.items() if name.startswith("inspector/")}
    assert set(found) == {"inspector/combined-stage1.json", "inspector/combined-stage2.json"}
    assert all(path.is_file() for path in found.values())


def test_without_one_there_is_no_such_artifact(prepared, tmp_path):
    plan, cells = prepared("hw=fp16")
    assert not [name for name in begin_row(plan, cells, tmp_path).artifacts if "inspector" in name]
