"""Two networks of equal weights, equal `repr` and the same entry file are one only if they compute the same."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from harness import networks as models
from harness.config import ModelConfig, packages
from harness.networks.identity import fingerprint, identity

ENTRY = "from told_apart import build\n\n\ndef net(num_classes):\n    return build(num_classes)\n"
HEAD = """
import functools, json, math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


class Net(nn.Module):
    def __init__(self, num_classes, factor=1):
        super().__init__()
        self.factor, self.fc = factor, nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)) * self.scale())

    def scale(self):
        return self.factor
"""
TAIL = "\n\ndef build(num_classes):\n    return Net(num_classes)\n"


def built(body):
    return f"{HEAD}\n\ndef build(num_classes):\n    net = Net(num_classes)\n{body}    return net\n"


# each with a place X for a number that changes what is computed
SITUATIONS = {
    "an argument of the builder": f"{HEAD}\n\ndef build(num_classes):\n    return Net(num_classes, X)\n",
    "a list in a dict": built("    net.options = {'scales': [1, [X]]}\n"),
    "an order of a dict": built("    net.options = {k: 1 for k in sorted(('a', 'b'), reverse=X > 1)}\n"),
    "a set": built("    net.kept = {'a', 'b', 'c', X}\n"),
    "a deque": built("    net.line = deque([X])\n"),
    "a tensor that is not registered": built("    net.factor_of = [torch.full((1,), float(X))]\n"),
    "a buffer that is not kept": built("    net.register_buffer('mask', torch.ones(1) * X, persistent=False)\n"),
    "an array": built("    net.table = np.full(3, X)\n"),
    "an array of objects": built("    net.table = np.array([X, None], dtype=object)\n"),
    "a layout of weights": built("    net.pattern = torch.zeros(2, 3, 4, 4).permute(0, 1, 1 + X, 4 - X)\n"),
    "a lambda": built("    net.scale = lambda: X\n"),
    "a default": built("    net.scale = lambda by=X: by\n"),
    "a keyword default": built("    def scale(*, by=X):\n        return by\n    net.scale = scale\n"),
    "a closure": built("    by = X\n    net.scale = lambda: by\n"),
    "a partial": built("    net.scale = functools.partial(max, 0, X)\n"),
    "a method of another object": built("    net.scale = [0, X].__len__ if X > 1 else [0].__len__\n"),
    "a forward bound to an instance": built(
        "    net.forward = (lambda self, x: Net.forward(self, x) * X).__get__(net)\n"
    ),
    "a hook": built("    net.fc.register_forward_hook(lambda module, given, found: found * X)\n"),
    "a hook before": built("    net.fc.register_forward_pre_hook(lambda module, given: (given[0] * X,))\n"),
    "a mode": built("    net.fc.train(X > 1)\n    net.fc.train = lambda mode=True: net.fc\n"),
    "a module constant": f"FACTOR = X\n{HEAD}".replace("return self.factor", "return FACTOR") + TAIL,
    "a constant of a class": HEAD.replace("    def scale", "    BY = X\n\n    def scale") + TAIL,
    "a property": HEAD.replace("    def scale", "    by = property(lambda self: X)\n\n    def scale") + TAIL,
    "a base class": HEAD.replace("class Net(nn.Module)", "class Base(nn.Module):\n    by = X\nclass Net(Base)") + TAIL,
    "a dataclass": f"{HEAD}\n\n@dataclass\nclass Options:\n    by: int\n" + built(
        "    net.options = Options(X)\n"
    ).removeprefix(HEAD),
    "an enum": f"{HEAD}\n\nclass Kind(Enum):\n    ONE = 1\n    TWO = 2\n" + built(
        "    net.kind = Kind(X)\n"
    ).removeprefix(HEAD),
    "an object with slots": f"{HEAD}\n\nclass Slots:\n    __slots__ = ('by',)\n" + built(
        "    net.slots = Slots()\n    net.slots.by = X\n"
    ).removeprefix(HEAD),
    "a parametrization": f"{HEAD}\n\nclass Scaled(nn.Module):\n    def forward(self, w):\n        return w * self.by\n"
    + built("    one = Scaled()\n    one.by = X\n    parametrize.register_parametrization(net.fc, 'weight', one)\n")
    .removeprefix(HEAD),
    "a scripted part": f"{HEAD}\n\nclass Part(nn.Module):\n    def __init__(self, by: int):\n"
    "        super().__init__()\n        self.by = by\n\n    def forward(self, x):\n        return x * self.by\n"
    + built("    net.part = torch.jit.script(Part(X))\n").removeprefix(HEAD),
}  # fmt: skip
# files beside the entry's, each with a place X; the network's own file is SHARED
SHARED = HEAD.replace("return self.factor", "return FACTOR") + TAIL
FILES = {
    "a constant of a module imported by a module": {
        "told_apart.py": f"from told_apart_a import FACTOR\n{SHARED}",
        "told_apart_a.py": "from told_apart_b import FACTOR\n",
        "told_apart_b.py": "FACTOR = X\n",
    },
    "a module imported when it is needed": {
        "told_apart.py": HEAD.replace("return self.factor", "from told_apart_a import by; return by()") + TAIL,
        "told_apart_a.py": "def by():\n    return X\n",
    },
    "a module imported by name": {
        "told_apart.py": "import importlib\n"
        + HEAD.replace("return self.factor", "return importlib.import_module('told_apart_a').BY")
        + TAIL,
        "told_apart_a.py": "BY = X\n",
    },
    "a package's first file": {
        "told_apart.py": f"from told_apart_p.inner import FACTOR\n{SHARED}",
        "told_apart_p/__init__.py": "BY = X\n",
        "told_apart_p/inner.py": "from . import BY as FACTOR\n",
    },
    "a settings file read on import": {
        "told_apart.py": f"import json\nFACTOR = json.load(open(__file__[:-3] + '.json'))\n{SHARED}",
        "told_apart.json": "X",
    },
    "a settings file read into a module": {
        "told_apart.py": "import told_apart_a as s\n" + HEAD.replace("return self.factor", "return s.inner.BY") + TAIL,
        "told_apart_a.py": "import told_apart_b as inner\n",
        "told_apart_b.py": "import json\nBY = json.load(open(__file__[:-3] + '.json'))\n",
        "told_apart_b.json": "X",
    },
    "a settings file read by the builder": {
        "told_apart.py": built("    net.factor = json.loads(Path(__file__).with_suffix('.json').read_text())\n"),
        "told_apart.json": "X",
    },
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return a function: made({"told_apart.py": text}) -> the network of these files, imported anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions of one size in one second are one to Python
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files):
        for name, text in {"told_apart_entry.py": ENTRY, **files}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        forget()
        importlib.invalidate_caches()
        return models.build(ModelConfig("told_apart_entry:net", image_size=32, num_classes=4))

    def forget():
        for name in [name for name in sys.modules if name.startswith("told_apart")]:
            del sys.modules[name]

    yield make
    forget()


def identified(network):
    return identity(network, packages.model_source("told_apart_entry:net"))


def versions(files):
    return [{name: text.replace("X", number) for name, text in files.items()} for number in ("1", "2")]


@pytest.mark.parametrize("what", [*SITUATIONS, *FILES])
def test_what_changes_the_computation_changes_the_identity(made, what):
    files = FILES.get(what) or {"told_apart.py": SITUATIONS[what]}
    first, second = versions(files)
    one = made(first)
    before, weights = identified(one), fingerprint(one)
    assert identified(made(first)) == before  # built once more, it is the same one
    other = made(second)
    assert fingerprint(other) == weights
    after = identified(other)
    assert after.exact != before.exact


@pytest.mark.parametrize("what", SITUATIONS)
def test_what_a_network_holds_tells_it_apart_without_its_sources(made, what):
    """The value itself is seen, not only that some file is another one."""
    from harness.networks.identity import Walk

    one, other = (Walk(made({"told_apart.py": text})) for text in (v["told_apart.py"] for v in versions(
        {"told_apart.py": SITUATIONS[what]}
    )))  # fmt: skip
    assert (one.state, one.shared) != (other.state, other.shared)


def test_two_networks_of_one_file_that_differ_in_a_function_only_are_two(made):
    text = HEAD + "\n\ndef build(num_classes):\n    net = Net(num_classes)\n    net.act = F.X\n    return net\n"
    one, other = (identified(made({"told_apart.py": text.replace("X", name)})) for name in ("gelu", "relu"))
    assert one.state != other.state


def test_a_forward_put_into_a_librarys_class_is_seen(monkeypatch, made):
    from torch import nn

    files = {"told_apart.py": HEAD + TAIL}
    before = identified(made(files))
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x @ self.weight.T)
    assert identified(made(files)).state != before.state


def test_what_earlier_networks_left_in_a_module_is_not_the_networks_own(made):
    text = "seen = []\n" + HEAD.replace("return self.factor", "seen.append(1); return self.factor") + TAIL
    network = made({"told_apart.py": text})
    before = identified(network)
    network.scale()
    after = identified(network)
    assert before.state == after.state and before.exact != after.exact


def test_a_tied_weight_is_not_an_equal_one(made):
    tied = built("    net.other = nn.Linear(3, num_classes)\n    net.other.load_state_dict(net.fc.state_dict())\nX")
    texts = [tied.replace("\nX", "\n" + line) for line in ("", "    net.other.weight = net.fc.weight\n")]
    one, other = (made({"told_apart.py": text}) for text in texts)
    assert fingerprint(one) == fingerprint(other)
    assert identified(one).state != identified(other).state


def test_another_process_finds_the_same_identity(made, tmp_path, plain_environment):
    """With another order of sets, and nothing imported yet but what it needs."""
    (first, _) = versions({"told_apart.py": SITUATIONS["a set"]})
    here = identified(made(first))
    code = f"""
from harness import networks as models
from harness.config import ModelConfig
from harness.networks.identity import identity
found = identity(models.build(ModelConfig("told_apart_entry:net", image_size=32, num_classes=4)), ["told_apart_entry"])
assert (found.exact, found.state) == {(here.exact, here.state)}, found
"""
    environment = plain_environment | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_chain_of_many_objects_has_an_end(made):
    body = "    chain = None\n    for n in range(200):\n        chain = [chain]\n    net.chain = chain\n"
    assert identified(made({"told_apart.py": built(body)})).exact


def test_an_object_that_refuses_to_be_looked_at_is_no_error(made):
    refusing = """
class Refusing:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __deepcopy__(self, memo):
        return self
"""
    body = "    one = Refusing()\n    net.use = lambda: one\n"
    assert identified(made({"told_apart.py": f"{HEAD}{refusing}" + built(body).removeprefix(HEAD)})).exact


def test_what_can_not_be_looked_into_counts_by_its_type(made):
    body = (
        "    import threading\n    lock, file = threading.Lock(), open(__file__)\n    net.use = lambda: (lock, file)\n"
    )
    files = {"told_apart.py": built(body)}
    assert identified(made(files)) == identified(made(files))
