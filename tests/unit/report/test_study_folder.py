"""A committed study's folder: one file for all its quartets, or one that is the same for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report.study import _FolderFiles, _name


def test_each_quartet_finds_its_own_part_of_a_file_for_all(tmp_path):
    (tmp_path / "interaction.json").write_text(json.dumps({"runs": {"a": {"why": 1}, "b": {"why": 2}}}))
    files = _FolderFiles(tmp_path)
    assert [files.json(run, "interaction.json") for run in ("a", "b", "c")] == [{"why": 1}, {"why": 2}, {}]


def test_a_file_that_names_no_quartet_is_that_of_all(tmp_path):
    (tmp_path / "environment.json").write_text('{"python": "3.12"}')
    assert _FolderFiles(tmp_path).json("a", "environment.json") == {"python": "3.12"}
    assert _FolderFiles(tmp_path).json("a", "config.json") == {}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/code/experiments/aa_h200", "aa_h200"),
        ("/code/experiments/serving_h100/first_run/serving_hw", "serving_h100/first_run/serving_hw"),
        ("/somewhere/of/mine", "of/mine"),
    ],
)
def test_a_study_is_called_by_its_place_below_experiments(place, name):
    assert _name(Path(place)) == name
