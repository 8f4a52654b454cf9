"""Where curves are found: a file, a folder, a sweep or a quartet of a real store."""

from __future__ import annotations

import json

import pytest

from harness.commands.capacity.command import find_curves
from harness.results.row import QuartetRecord
from harness.system.errors import UserError
from harness.tracking.runs import finish, log_quartet, start_quartet, start_sweep


@pytest.fixture
def written(serving, tmp_path):
    """Return a function: written("a/serving.json") -> that file below the temporary folder."""

    def write(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(serving))
        return path

    return write


def test_a_file_and_a_folder_of_them_are_read(written, tmp_path):
    first, _ = written("study/b16/serving.json"), written("study/b8.serving.json")
    (tmp_path / "study" / "environment.json").write_text("{}")
    assert [one.name for one in find_curves(str(first))] == [str(first)]
    assert [one.name for one in find_curves(str(tmp_path / "study"))] == ["b16/serving.json", "b8.serving.json"]


def test_a_folder_without_them_and_a_file_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no file named serving\.json"):
        find_curves(str(tmp_path))
    with pytest.raises(UserError, match="there is no file"):
        find_curves(str(tmp_path / "none.json"))


def test_a_sweep_and_a_quartet_are_read_from_the_store_without_those_that_failed(written, store, tmp_path):
    uri = str(tmp_path / "mlruns")
    sweep = start_sweep(store, "load", {}, {})
    with pytest.raises(UserError, match="of 0 finished quartets none was measured under load"):
        find_curves("load", uri)
    file = written("serving.json")
    runs = []
    for name, gpu, status in (("same", "H100", "FINISHED"), ("same", "none", "FINISHED"), ("lost", "H100", "FAILED")):
        runs.append(start_quartet(store, sweep, name, {}, {"gpu": gpu}))
        log_quartet(store, runs[-1], QuartetRecord(artifacts={"serving.json": file}))
        finish(store, runs[-1], status, "broken" if status == "FAILED" else None)
    bare = start_quartet(store, sweep, "bare", {}, {})
    finish(store, bare, "FINISHED")
    for study in ("load", sweep):
        found = find_curves(study, uri)
        assert [one.name for one in found] == ["same", f"same-{runs[1][:6]}"]
        assert found[0].device == "H100"
        assert found[1].device.startswith("a CPU")
    assert [one.name for one in find_curves(runs[0], uri)] == ["same"]
    with pytest.raises(UserError, match="no sweep 'nothing'"):
        find_curves("nothing", uri)
    with pytest.raises(UserError, match="of 1 finished quartet none"):
        find_curves(bare, uri)
