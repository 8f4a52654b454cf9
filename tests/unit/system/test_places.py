"""Somebody else's code may move itself, not us."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import warm_starts
from harness.config import from_omegaconf
from harness.system.places import HardExit, absolute, restored_places

EXITING = """
import os
from torch import nn

def end(where):
    if where == "WHERE":
        os._exit(0)

end("import")

class Net(nn.Linear):
    def forward(self, x):
        end("run")
        return super().forward(x.mean((2, 3)))

def net(num_classes):
    end("make")
    return Net(3, num_classes)
"""


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


def test_a_folder_that_somebody_elses_code_has_moved_to_is_forgotten_when_we_move(tmp_path, monkeypatch):
    theirs, elsewhere = tmp_path / "theirs", tmp_path / "elsewhere"
    theirs.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with restored_places():
        os.chdir(theirs)
    os.chdir(elsewhere)  # a notebook's next cell, with another network
    with restored_places():
        assert os.getcwd() == str(elsewhere)


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


def test_os_exit_of_somebody_elses_code_raises_and_forked_processes_and_our_threads_still_end():
    with pytest.raises(HardExit) as ended, restored_places():
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        os._exit(0)
    assert ended.value.code == 0
    code = (
        "import os, threading, time; from harness.system.places import restored_places\n"
        "with restored_places():\n threading.Thread(target=lambda: os._exit(3)).start(); time.sleep(60)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 3


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("import", "exiting_networks can't be imported: os._exit: it ends the program with 0 (exiting_networks.py:"),
        ("make", "net(num_classes=10) failed: os._exit: it ends the program with 0 (exiting_networks.py:"),
        ("run", "can't be run on images [2, 3, 32, 32] (model.image_size=32): os._exit: it ends the program with 0"),
    ],
)
def test_a_model_that_ends_the_program_is_reported_as_such(where, says, tmp_path, plain_environment):
    (tmp_path / "exiting_networks.py").write_text(EXITING.replace("WHERE", where))
    done = warm_starts.run(
        [sys.executable, "-m", "harness", "model=exiting_networks:net", "model.image_size=32", "model.num_classes=10"],
        cwd=tmp_path, env=plain_environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and says in done.stderr
    assert len(done.stderr.splitlines()) == 1
