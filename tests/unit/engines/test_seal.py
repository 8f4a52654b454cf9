"""An engine is code: only the one that was asked for, built for this machine and unchanged since, is loaded."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from harness.engines.build import check_seal
from harness.engines.onnxruntime import ONNXRUNTIME
from harness.measure.coordinator import workers
from harness.system.errors import CellError


@pytest.fixture(scope="module")
def quartet(prepared):
    return prepared("reference=engine")


@pytest.fixture
def artifact(quartet, tmp_path):
    """Return a sealed artifact in a folder that a test may damage."""
    (cell,) = quartet[1].values()
    folder = tmp_path / "entry"
    shutil.copytree(cell.artifacts[0].path, folder)
    return replace(cell.artifacts[0], path=folder)


def test_what_the_cache_gave_is_loaded(artifact):
    check_seal(artifact)


def test_a_changed_engine_is_not_loaded(artifact):
    with open(artifact.path / artifact.main_file, "ab") as handle:
        handle.write(b"\0")
    with pytest.raises(CellError, match="changed since it was built: it is not loaded"):
        check_seal(artifact)


def test_a_file_beside_an_engine_that_nobody_built_is_not_loaded(artifact):
    (artifact.path / "weights.data").write_bytes(b"other weights")
    with pytest.raises(CellError, match="changed since it was built"):
        check_seal(artifact)


def test_an_engine_of_another_version_is_not_loaded(artifact, monkeypatch):
    monkeypatch.setattr(type(ONNXRUNTIME), "version", lambda self: "0.0.1")
    with pytest.raises(CellError, match="built for another engine version, GPU, driver or plan"):
        check_seal(artifact)


@pytest.mark.parametrize("fact", ["driver", "name", "compute_capability"])
def test_an_engine_from_another_gpu_or_driver_is_not_loaded(artifact, monkeypatch, fact):
    from harness.engines.build import artifact_key

    chip = {"name": "an L4", "compute_capability": "8.9", "driver": "580.1"}
    on_gpu = replace(artifact.plan, device="cuda")
    monkeypatch.setattr("harness.engines.build.gpu", lambda: chip)
    built_there = replace(artifact, plan=on_gpu, key=artifact_key(on_gpu))
    check_seal(built_there)
    monkeypatch.setattr("harness.engines.build.gpu", lambda: {**chip, fact: "another"})
    with pytest.raises(CellError, match="built for another engine version, GPU, driver or plan"):
        check_seal(built_there)


@pytest.mark.parametrize("how", ["no key", "no files", "a path that leads out"])
def test_an_engine_that_did_not_come_through_the_cache_is_not_loaded(artifact, how):
    changed = {"no key": {"key": ""}, "no files": {"files": {}}, "a path that leads out": {"main_file": "../x.onnx"}}
    with pytest.raises(CellError, match="did not come through the cache"):
        check_seal(replace(artifact, **changed[how]))


def test_the_worker_itself_looks_right_before_it_loads(quartet, artifact):
    (cell,) = quartet[1].values()
    (artifact.path / artifact.main_file).write_bytes(b"swapped between the check and the load")
    with (
        workers([replace(cell, artifacts=(artifact,))]) as handles,
        pytest.raises(CellError, match=r"^baseline: engine onnxruntime: the artifact was changed since it was built"),
    ):
        handles["baseline"].ask("load")
