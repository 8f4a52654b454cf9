"""A committed study's folder: one file for all its quartets, or one that is the same for each."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas
import pytest

from harness.report.command import main
from harness.report.study import _FolderFiles, _name, open_study


def test_each_quartet_finds_its_own_part_of_a_file_for_all(tmp_path):
    (tmp_path / "interaction.json").write_text(json.dumps({"runs": {"a": {"why": 1}, "b": {"why": 2}}}))
    files = _FolderFiles(dict.fromkeys("abc", tmp_path))
    assert [files.json(run, "interaction.json") for run in ("a", "b", "c")] == [{"why": 1}, {"why": 2}, {}]


def test_a_file_that_names_no_quartet_is_that_of_all(tmp_path):
    (tmp_path / "environment.json").write_text('{"python": "3.12"}')
    files = _FolderFiles({"a": tmp_path})
    assert files.json("a", "environment.json") == {"python": "3.12"}
    assert files.json("a", "config.json") == {}


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


def write_row(folder, **change):
    """Write a study of one quartet into a folder."""
    folder.mkdir(parents=True)
    row = {
        "run_id": "a", "run_name": "grouped x fp16", "status": "FINISHED", "model": "net", "arch": "grouped",
        "hw": "fp16", "batch_size": "8", "engine": "onnxruntime", "engine_version": "1", "reference": "eager",
        "boundary": "wall", "verdict": "amplify", "interaction/factor": 1.2, "interaction/low": 1.1,
        "interaction/high": 1.3, "gain/arch": 1.5, "gain/hw": 2.0, "gain/combined": 3.6, "gain/expected": 3.0,
    }  # fmt: skip
    row |= {f"{prefix}throughput/wall": 100.0 for prefix in ("", "baseline/", "arch/", "hw/")}
    pandas.DataFrame([row | change]).to_csv(folder / "results.csv", index=False)


def test_a_study_of_several_folders_is_read_as_a_whole_and_each_quartet_finds_the_files_of_its_own(tmp_path):
    parts = {"b16": "first", "b32": "second"}
    for name, run_id in parts.items():
        write_row(tmp_path / name, run_id=run_id, batch_size=name[1:])
        (tmp_path / name / "interaction.json").write_text(json.dumps({"runs": {run_id: {"part": name}}}))
    write_row(tmp_path / "builds")
    pandas.DataFrame({"cell": ["fp16"], "build_s": [1.5]}).to_csv(tmp_path / "builds" / "results.csv", index=False)
    study = open_study(str(tmp_path))
    assert dict(zip(study.frame["run_id"], study.frame["batch_size"], strict=True)) == {"first": "16", "second": "32"}
    for name, run_id in parts.items():
        assert study.files.json(run_id, "interaction.json") == {"part": name}


def test_a_folder_without_quartets_in_it_or_in_its_folders_is_no_study(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path)]) == 2
    assert "is not a study: it has no results.csv" in capsys.readouterr().err


@pytest.fixture
def hostile(tmp_path):
    """Return a function: hostile({"arch": "[red]x"}) -> what the report says of a folder with such a row."""

    def report(change=None, files=None):
        folder = tmp_path / "study"
        write_row(folder, **(change or {}))
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        return main([str(folder), "--html", str(tmp_path / "page.html")])

    return report


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"samples.parquet": b"PAR1 and then nothing"}, "samples.parquet can't be read as a table"),
        ({"telemetry.parquet": b""}, "telemetry.parquet can't be read as a table"),
        ({"interaction.json": b"{"}, "interaction.json can't be read as JSON"),
        ({"environment.json": b"[" * 100_000}, "environment.json can't be read as JSON"),
        ({"environment.json": b"[1]"}, "environment.json holds list"),
        ({"interaction.json": b'{"runs": {"a": 3}}'}, "interaction.json holds int"),
        ({"environment.json": b"\xff\xfe"}, "environment.json can't be read as JSON"),
        ({"results.csv": b"\x00\x01"}, "results.csv"),
    ],
)
def test_a_broken_folder_is_one_line_and_status_2(hostile, capsys, files, says):
    assert hostile(files=files) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("name", ["interaction/factor", "interaction/low", "gain/arch", "hw/throughput/wall"])
@pytest.mark.parametrize("value", [-1.2, math.inf])
def test_numbers_that_none_can_be_are_refused(hostile, capsys, name, value):
    if name == "interaction/low" and value == math.inf:
        pytest.skip("a limit may be")
    assert hostile({name: value}) == 2
    error = capsys.readouterr().err
    assert f"{name} of grouped x fp16 is {value:g}, which none can be" in error and len(error.splitlines()) == 1


def test_a_loss_of_accuracy_by_both_together_may_be_below_zero(hostile):
    limits = {"interaction/accuracy_low": -0.045, "interaction/accuracy_high": -0.005}
    assert hostile({"interaction/accuracy": -0.025, **limits}) == 0


def test_names_are_printed_as_they_are_and_write_nothing_else_on_a_terminal(hostile, capsys):
    escapes = "\x1b[2J\x1b]8;;http://elsewhere\x07"
    names = {name: f"[bold]{name}[/bold][/x]{escapes}" for name in ("arch", "hw", "model", "run_name", "engine")}
    assert hostile(names | {"note": f"[link=x]n{escapes}", "strategy": f"[/]{escapes}"}) == 0
    printed = capsys.readouterr().out
    assert "[bold]model[/bold][/x]" in printed and "[bold]arch[/bold]" in printed
    assert "\x1b" not in printed and "\x07" not in printed
