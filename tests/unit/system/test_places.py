"""Somebody else's code may move itself, not us."""

from __future__ import annotations

import os

import pytest

from harness.config import from_omegaconf
from harness.system.places import absolute, restored_places


def test_somebody_elses_code_moves_itself_and_not_us(tmp_path, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir(), theirs.mkdir()
    monkeypatch.chdir(ours)
    monkeypatch.setenv("HARNESS_CACHE", "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RuntimeError), restored_places():
        os.chdir(theirs)
        os.environ |= {"HARNESS_CACHE": "there", "MLFLOW_TRACKING_URI": "sqlite:///there", "THEIR_OWN": "kept"}
        raise RuntimeError
    assert os.getcwd() == str(ours)
    assert os.environ["HARNESS_CACHE"] == "here" and "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ.pop("THEIR_OWN") == "kept"
    with restored_places():
        assert os.getcwd() == str(theirs)  # it finds itself where it went
        with restored_places():
            assert os.getcwd() == str(theirs)
        os.chdir(ours)
    with restored_places():
        assert os.getcwd() == str(ours)


def test_a_current_folder_that_is_gone_costs_nothing(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(tmp_path)
    with restored_places():
        os.chdir(gone)
        gone.rmdir()
    assert os.getcwd() == str(tmp_path)
    with restored_places():
        assert os.getcwd() == str(tmp_path)


def test_folders_that_are_written_to_are_absolute_in_a_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = from_omegaconf({"model": {"name": "resnet18"}, "tracking": {"root": "store"}, "cache": {"dir": "kept"}})
    assert (config.tracking.root, config.cache.dir) == (absolute("store"), str(tmp_path / "kept"))
    assert config.checkpoints.dir == str(tmp_path / "checkpoints")
    assert not absolute("~/x").startswith("~")
