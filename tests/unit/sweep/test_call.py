"""A sweep called from Python: the same words as a command line's, and functions that travel to other processes."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from torch import nn

import warm_starts
from harness.sweep import call
from harness.sweep.call import overrides_of
from harness.sweep.command_line import compose_jobs
from harness.system.errors import UserError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arch": "grouped"}, ["arch=grouped"]),
        ({"arch": ["grouped", "low_rank"]}, ["arch=grouped,low_rank"]),
        ({"arch": ("grouped", "low_rank")}, ["arch=[grouped,low_rank]"]),
        ({"arch": [("grouped", "low_rank"), "none"]}, ["arch=[grouped,low_rank],none"]),
        ({"batch_size": [1, 8]}, ["batch_size=1,8"]),
        ({"protocol": {"budget_s": 2.5, "why": False}}, ["protocol.budget_s=2.5", "protocol.why=false"]),
        ({"model.weights": None}, ["model.weights=null"]),
        ({"sweep_name": "größe = 3"}, ['sweep_name="größe = 3"']),
        ({"data": {"split_shares": [0.6, 0.2, 0.2]}}, ["data.split_shares=[0.6,0.2,0.2]"]),
        ({"engine.profiles": [[1, 2, 4], [8, 8, 8]]}, ["engine.profiles=[[1,2,4],[8,8,8]]"]),
    ],
)
def test_values_of_python_are_the_words_of_a_command_line(given, words):
    assert overrides_of(given) == words


@pytest.mark.parametrize(
    ("given", "said"),
    [({"arch": []}, "a grid without values"), ({"batch_size": {1, 2}}, "is set, which no option takes")],
)
def test_what_has_no_word_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        overrides_of(given)


def test_a_call_composes_the_jobs_of_its_command_line():
    given = {
        "model": "densenet_tiny",
        "arch": ["grouped", ("grouped", "low_rank")],
        "hw": ["fusion"],
        "batch_size": [1, 2],
        "protocol": {"budget_s": 3},
        "sweep_name": "größe = 3",
    }
    typed = ["model=densenet_tiny", "arch=grouped,[grouped,low_rank]", "hw=fusion", "batch_size=1,2"]
    typed += ["protocol.budget_s=3", 'sweep_name="größe = 3"']
    assert [job.config for job in compose_jobs(overrides_of(given))] == [job.config for job in compose_jobs(typed)]


def defined(source):
    """Return the function `network` of a notebook's cell: its module is __main__, and has no file."""
    space = {"__name__": "__main__"}
    exec(source, space)
    return space["network"]


CELL = """
import torch
TIMES = {times}

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, images):
        for _ in range(TIMES):
            images = images * 1.0
        return self.head(images.mean((2, 3)))

def network(num_classes):
    return Net(num_classes)
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    return tmp_path


def test_a_function_of_a_notebook_gives_the_same_network_in_another_process(places):
    name = call._importable(defined(CELL.format(times=1)), places)
    code = f"""
import torch
from harness.config import ModelConfig
from harness.networks.identity import identity
from harness.networks.registry import spec
torch.manual_seed(0)
network = spec({name!r}).create(ModelConfig(name={name!r}, num_classes=7))
print(network.head.out_features, identity(network).exact)
"""
    answers = {warm_starts.run([sys.executable, "-c", code], timeout=300).stdout for _ in range(2)}
    (answer,) = answers
    assert answer.startswith("7 ")


def test_an_edited_function_or_one_whose_surroundings_were_edited_is_another_network(places):
    names = [call._importable(defined(CELL.format(times=times)), places) for times in (1, 1, 100)]
    assert names[0] == names[1] != names[2]


def test_an_importable_function_goes_by_its_name(places):
    from slim_networks import vit

    assert call._importable(vit, places) == "slim_networks:vit"
    assert list(places.iterdir()) == []


def test_a_lambda_travels_too(places):
    made = call._importable(defined("import torch\nnetwork = lambda: torch.nn.Linear(3, 2)\n"), places)
    module, _, name = made.partition(":")
    assert getattr(importlib.import_module(module), name)().out_features == 2


def test_a_network_itself_is_refused_with_what_to_give(places):
    with pytest.raises(UserError, match=r"model is a network \(Linear\): give a function that makes it"):
        call._importable(nn.Linear(3, 2), places)


def test_what_can_not_travel_is_refused(places):
    with pytest.raises(UserError, match="is int: give a name"):
        call._importable(7, places)
    holding = defined("import threading\nlock = threading.Lock()\ndef network():\n    return lock\n")
    with pytest.raises(UserError, match="can't be sent to another process: TypeError"):
        call._importable(holding, places)


def test_a_script_without_a_guard_is_not_run_again_by_child_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing
from harness.sweep.call import _without_main
print("runs")
with _without_main():
    process = multiprocessing.get_context("spawn").Process(target=print, args=("child",))
    process.start()
    process.join()
print(process.exitcode, __file__)
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["runs", "child", f"0 {script}"]


def test_what_is_wrong_is_an_error_of_one_line_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, said in (({"model": "nope"}, "model 'nope' is not known"), ({"batch_size": -1}, r"batch_size=-1")):
        with pytest.raises(UserError, match=said):
            call.run(**given)
    with pytest.raises(UserError, match=r"unknown option protocol\.budgets"):
        call.run("densenet_tiny", hw="fusion", protocol={"budgets": 3})
    assert list(tmp_path.iterdir()) == []


def test_inputs_travel_with_a_function_and_make_another_network_of_it(places):
    import torch

    from harness.networks.registry import spec
    from slim_networks import vit

    def ones(batch_size):
        return torch.ones(batch_size, 3, 32, 32)

    named = call._importable(vit, places, ones)
    assert torch.equal(spec(named).inputs(2), ones(2))
    assert named == call._importable(vit, places, ones)
    assert named != call._importable(vit, places, lambda batch_size: 2 * ones(batch_size))
    assert call._importable(call._function_of("slim_networks:vit"), places, ones) == named


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "resnet50", "inputs": len}, "inputs: model=resnet50 takes images; give the function that makes"),
        ({"model": dict, "inputs": [1]}, r"inputs=\[1\] is list: give a function of the batch size"),
    ],
)
def test_inputs_that_belong_to_no_function_are_refused(places, given, said):
    with pytest.raises(UserError, match=said):
        call.run(**given)
