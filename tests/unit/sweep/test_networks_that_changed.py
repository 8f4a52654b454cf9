"""An edited network is exported, verified and measured anew, though weights, `repr` and entry file are the same."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace

import pytest

from harness.config import arch_off
from harness.engines.export import ExportRequest, export, export_key
from harness.measure import verify
from harness.measure.verify import reference
from harness.networks.inputs import one_tensor
from harness.sweep.job import quartet_key
from harness.system.cache import Cache
from harness.system.errors import CellError
from harness.techniques.arch import assembled as networks
from harness.techniques.arch.assembled import network
from harness.techniques.arch.recipe import rebuild

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, num_classes, times=1, act=F.relu):
        super().__init__()
        self.times, self.act = times, act
        self.a, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, num_classes)

    def forward(self, x):
        y = self.act(self.a(x))
        for _ in range(self.times):
            y = F.normalize(y, dim=1)
        return self.fc(y.mean((2, 3)))
"""
FILES = {
    "edited_net.py": NET,
    "edited_entry.py": "from edited_net import Net\n\n\ndef net(num_classes):\n    return Net(num_classes, times=1)\n",
    "edited_act.py": "from edited_net import F, Net\ndef relu(num_classes):\n    return Net(num_classes, act=F.relu)\n"
    "\n\ndef gelu(num_classes):\n    return Net(num_classes, act=F.gelu)\n\n\ndef gelu_tanh(num_classes):\n"
    "    return Net(num_classes, act=lambda x: F.gelu(x, approximate='tanh'))\n",
    "edited_two.py": "from edited_net import Net\nfrom edited_settings import TIMES\n\n\n"
    "def net(num_classes):\n    return Net(num_classes, TIMES)\n",
    "edited_settings.py": "TIMES = 1\n",
    "edited_own.py": "from edited_net import Net\nfrom edited_own_inputs import inputs\n\n\n"
    "def net(num_classes):\n    return Net(num_classes, 1)\n",
    "edited_own_inputs.py": "import torch\nLEAST = 0\n\n\n"
    "def inputs(size):\n    return torch.rand(size, 3, 64, 64) + LEAST\n",
    "edited_json.py": "import json\nfrom edited_net import Net\n\n\ndef net(num_classes):\n"
    "    with open('edited.json') as settings:\n        return Net(num_classes, json.load(settings))\n",
    "edited.json": "1",
    "edited_counted.py": "from edited_net import Net\nmade = []\n\n\ndef net(num_classes):\n    made.append(1)\n"
    "    found = Net(num_classes)\n    found.number = len(made)\n    return found\n",
}
REQUEST = ExportRequest(one_tensor("input", (3, 64, 64)).specs, ("logits",))


@pytest.fixture(autouse=True)
def edit(tmp_path, monkeypatch):
    """Return a function: edit("edited_settings.py", "1", "100") changes a file, and what a new process would import."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    def forget():
        for name in [name for name in sys.modules if name.startswith("edited")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        networks._network.cache_clear()
        networks._base_identity.cache_clear()

    def change(name, old, new, noticed=True):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
        if noticed:
            forget()

    forget()
    yield change
    forget()


@pytest.fixture
def named(configured):
    """Return a function: named("edited_entry:net") -> the config of that network."""
    return lambda name, *overrides: replace(
        config := configured(*overrides), model=replace(config.model, name=name, image_size=64, num_classes=10)
    )


def key_of_export(config):
    net = network(config.model, arch_off())
    return export_key(net.module, net.identity.exact, REQUEST)


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("edited_entry:net", "edited_entry.py", "times=1", "times=100"),
        ("edited_two:net", "edited_settings.py", "TIMES = 1", "TIMES = 100"),
        ("edited_json:net", "edited.json", "1", "100"),
        ("edited_entry:net", "edited_net.py", "dim=1", "dim=2"),
        ("edited_own:net", "edited_own_inputs.py", "LEAST = 0", "LEAST = 1"),
    ],
)
def test_an_edited_network_has_another_export_reference_and_quartet(named, planned, edit, name, file, old, new):
    config = named(name)
    plan = replace(planned("hw=fusion"), config=config)

    def keys():
        return key_of_export(config), quartet_key(plan, None), network(config.model, arch_off()).identity.exact

    before = keys()
    assert keys() == before
    edit("edited_act.py", "relu", "selu")  # no part of this network
    assert keys() == before
    edit(file, old, new)
    assert all(one != other for one, other in zip(before, keys(), strict=True))


def test_another_activation_is_exported_for_itself(named, tmp_path):
    cache, found = Cache(tmp_path / "cache"), []
    for name in ("edited_act:gelu", "edited_act:gelu_tanh", "edited_act:gelu"):
        net = network(named(name).model, arch_off())
        graph, _, hit = export(net.module, net.identity.exact, REQUEST, cache)
        found.append((graph.sha256, hit))
    assert [hit for _, hit in found] == [False, False, True]
    assert found[0][0] == found[2][0] != found[1][0]


def test_two_networks_of_the_same_weights_have_answers_of_their_own(named, monkeypatch):
    monkeypatch.setattr(verify, "_references", {})
    answers = []
    for name in ("edited_act:relu", "edited_act:gelu"):
        config = named(name)
        answers.append(reference(network(config.model, arch_off()), config).heads["logits"])
    assert abs(answers[0] - answers[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "file"), [("edited_two:net", "edited_settings.py"), ("edited_json:net", "edited.json")]
)
def test_a_worker_that_finds_another_network_than_was_exported_refuses_it(named, edit, name, file):
    """The settings were edited while the sweep ran: the workers, which are new processes, read the new ones."""
    text = network(named(name).model, arch_off()).text
    rebuild(text)
    edit(file, "1", "100")
    with pytest.raises(CellError, match="not the exported one: did its code or its settings change"):
        rebuild(text)


def test_a_network_that_is_built_differently_every_time_is_measured_all_the_same(named):
    text = network(named("edited_counted:net").model, arch_off()).text
    assert rebuild(text).number == 2
    assert json.loads(text)["identity"]


def test_what_an_exit_is_calibrated_to_does_not_make_it_another_network(configured):
    config = configured("arch=early_exit")
    rebuild(network(config.model, config.arch).text)


def test_a_network_that_can_not_be_built_has_a_key_and_fails_in_its_own_quartet(named, planned):
    plan = replace(planned("hw=fusion"), config=named("edited_entry:nowhere"))
    assert len(quartet_key(plan, None)) == 64
