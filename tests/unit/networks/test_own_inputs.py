"""`inputs(batch_size)` beside the function that makes a network: every structure that works, and each that can't."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch

from harness import networks as models
from harness.config import DataConfig, ModelConfig, arch_off
from harness.networks.data.labelled import check_data
from harness.networks.identity import identity
from harness.networks.inputs import image_inputs
from harness.system.errors import UserError
from harness.techniques.arch.accounting import account
from harness.techniques.arch.assembled import network
from harness.techniques.arch.stages import all_heads, stages

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, mask=None):
        tokens = self.embedding(ids)
        kept = torch.ones_like(ids, dtype=torch.float32) if mask is None else mask.float()
        mean = (tokens * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
        return {answer}

def net():
    return Net()

def ids(size, seed=0):
    return torch.randint(0, 50, (size, 6), generator=torch.Generator().manual_seed(seed))

def mask(size):
    return torch.arange(6) < torch.randint(1, 7, (size, 1))
"""
NUMBERS = itertools.count()
SCORES = "self.head(mean)"
BOTH = "def inputs(batch_size, seed):\n    return {'ids': ids(batch_size, seed), 'mask': mask(batch_size)}"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a module and returns the config of its network."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def write(inputs: str, answer: str = SCORES, net: str = NET) -> ModelConfig:
        name = f"own_net_{next(NUMBERS)}"  # networks are kept by name for as long as a process lives
        made.append(name)
        (tmp_path / f"{name}.py").write_text(net.replace("{answer}", answer) + "\n" + inputs + "\n")
        return ModelConfig(name=f"{name}:net")

    yield write
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("inputs", "taken"),
    [
        ("def inputs(size): return ids(size)", "input [B, 6] int64"),
        ("def inputs(size): return ids(size), mask(size)", "ids [B, 6] int64, mask [B, 6] bool"),
        ("def inputs(size): return [ids(size), mask(size).int()]", "ids [B, 6] int64, mask [B, 6] int32"),
        ("def inputs(size): return {'mask': mask(size), 'ids': ids(size)}", "mask [B, 6] bool, ids [B, 6] int64"),
        ("inputs = lambda size, seed=0: ids(size, seed)", "input [B, 6] int64"),
        ("class Maker:\n    def __call__(self, size): return ids(size)\ninputs = Maker()", "input [B, 6] int64"),
        ("net.inputs = lambda size: ids(size)\ninputs = 'of another one'", "input [B, 6] int64"),
    ],
)
def test_a_tensor_a_tuple_or_a_dict_is_taken_and_the_network_counted_with_it(written, inputs, taken):
    built = models.build(written(inputs))
    found = models.inputs_of(built)
    assert str(found) == taken
    (stage,) = stages(built)
    assert all_heads((stage,), found.tensors(5))["logits"].shape == (5, 3)
    assert account(built).gmacs == pytest.approx(24e-9)
    assert models.image_side(built) is None


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (SCORES, ("logits",)),
        (f"({SCORES}, tokens)", ("output_0", "output_1")),
        (f"{{'scores': {SCORES}, 'tokens': tokens}}", ("scores", "tokens")),
        ("__import__('collections').namedtuple('Answer', 'scores mean')(self.head(mean), mean)", ("scores", "mean")),
    ],
)
def test_a_tensor_a_tuple_or_a_dict_is_given_and_each_tensor_of_it_is_a_head(written, answer, names):
    (stage,) = network(written(BOTH, answer), arch_off()).stages
    assert stage.output_names == names
    assert tuple(all_heads((stage,), stage.inputs.tensors(3))) == names


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("inputs = [1, 2]", r"its inputs is a list, not a function of the batch size$"),
        ("inputs = []", r"its inputs is a list, not a function"),
        ("def inputs(size): return size", r"inputs\(2\) returns an int, not tensors \(own_net_\d+.py:\d+\)$"),
        ("def inputs(size): return ()", r"returns a tuple that holds nothing, not tensors \("),
        ("def inputs(size): return {'ids': ids(size).numpy()}", r"'ids' as a ndarray, not a tensor: torch.from_numpy"),
        ("def inputs(size): return {3: ids(size)}", r"a dict with the key 3: a parameter of forward is named there"),
        (
            "def inputs(size): return ids(4)",
            r"'input' of shape \[4, 6\]: its first dimension must be the batch, 2 here",
        ),
        ("def inputs(size): return ids(size), mask(1)", r"gives 'input_1' of shape \[1, 6\]: its first dimension"),
        ("def inputs(size): return ids(size), torch.tensor(3)", r"gives 'input_1' of shape \[\]: its first dimension"),
        ("def inputs(size): return ids(size).to('meta')", r"gives 'input' on meta: leave it on the CPU"),
        ("def inputs(size): return torch.full((size, 2), float('nan'))", r"inputs\(2\) gives NaN in 'input'"),
        ("def inputs(size): return torch.zeros(size, 2).double()", r"'input' in float64: choose .* use .float\(\)"),
        ("def inputs(size): return ids(size).short()", r"gives 'input' in int16: choose one of float32, int64"),
        ("def inputs(size): return ids(size).to_sparse()", r"gives 'input' as a sparse, nested or quantized tensor"),
        (
            "def inputs(size): return ids(size)[:, :size]",
            r"inputs\(2\) gives input \[B, 2\] int64 and inputs\(3\) input \[B, 3\] int64: only the batch may",
        ),
        ("def inputs(size): return ids(size) if size < 3 else (ids(size),)", r"only the batch may differ"),
        (
            "def inputs(size): return ids(size, int(torch.Generator().seed() % 1000))",
            r"gives other values of 'input' each time it is called: .* take a parameter `seed` \(own_net_\d+",
        ),
        ("def inputs(size): return nowhere(size)", r"inputs\(2\) failed .*NameError.*nowhere.*own_net_\d+.py:\d+\)$"),
        ("def inputs(): return ids(2)", r"inputs\(2\) failed \(own_net_\d+.py:\d+\): TypeError: .*takes 0 positional"),
        ("def inputs(size): raise SystemExit(3)", r"inputs\(2\) failed .*ends the program with 3"),
        (
            "def inputs(size): return {'words': ids(size)}",
            r"can't be run on its inputs\(2\), words \[B, 6\] int64: TypeE",
        ),
        ("def inputs(size): return torch.randn(size, 6)", r"can't be run on its inputs\(2\), input \[B, 6\] float32: "),
    ],
)
def test_inputs_that_nothing_can_be_measured_with_are_one_line_that_names_their_place(written, inputs, said):
    with pytest.raises(UserError, match=said) as refused:
        models.build(written(inputs))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("None", r"gives a NoneType, not a tensor, or a tuple or dict of tensors"),
        (f"({SCORES}, None)", r"gives a tuple \(\[B, 3\], a NoneType\), not a tensor"),
        (f"({SCORES}, tokens.sum())", r"gives 'output_1' of shape \[\] for inputs\(2\): its first dimension must be"),
        (f"{SCORES}.argmax(1)", r"gives 'logits' in torch.int64: only floating-point numbers can be compared"),
        (f"{SCORES}.double()", r"computes in torch.float64, and the baseline is fp32"),
        (f"{{'ids': {SCORES}}}", r"gives an output called as its input 'ids'"),
        (f"{{'a': {SCORES}, 'b': mean / 0}}", r"answers (NaN|infinity) in plain PyTorch"),
        (f"{{'a': {SCORES}, 'b': torch.randn_like(mean)}}", r"answers the same inputs differently each time"),
    ],
)
def test_a_network_whose_answers_can_t_be_compared_is_refused(written, answer, said):
    with pytest.raises(UserError, match=said):
        models.build(written(BOTH, answer))


def test_values_are_drawn_from_the_seed_whatever_the_function_draws_with(written):
    drawn = "import random\nimport numpy as np\ndef inputs(size):\n    torch.manual_seed(random.randrange(9**9))\n"
    drawn += "    return ids(size, np.random.randint(9**9)), mask(size)"
    found = models.inputs_of(models.build(written(drawn)))
    torch.manual_seed(1)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (found.arrays(8, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in found.names)
    assert all(not np.array_equal(first[name], other[name]) for name in found.names)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)


def test_another_inputs_is_another_identity_also_where_only_a_value_that_it_refers_to_was_changed(written):
    source = "MOST = {most}\ndef inputs(size):\n    return ids(size) % MOST"
    config = written(source.format(most=50))
    before = identity(models.build(config)).exact
    assert identity(models.build(config)).exact == before
    sys.modules[config.name.partition(":")[0]].MOST = 7
    assert identity(models.build(config)).exact != before


def test_images_are_the_default_and_inputs_that_are_images_count_as_such(written):
    config = written("", "mean", net="from torchvision.models import resnet18\ndef net(): return resnet18()")
    assert models.inputs_of(models.build(ModelConfig(config.name, image_size=32))) == image_inputs(32)
    own = written(
        "import torch\ndef inputs(size): return torch.rand(size, 3, 64, 64)",
        net="from torchvision.models import resnet18\ndef net(): return resnet18(num_classes=7)",
    )
    arch = arch_off()
    arch.early_exit.enabled = True
    net = network(own, arch)  # not square images by our choice, but by their author's
    assert [stage.inputs.names for stage in net.stages] == [("input",), ("features",)]
    assert net.stages[0].inputs.tensors(2)[0].min() >= 0  # as `inputs` draws them


@pytest.mark.parametrize(
    ("technique", "said"),
    [
        ("early_exit", r"arch=early_exit: it needs a network on square images, and Net takes ids \[B, 6\] int64, mask"),
        (
            "pruned",
            r"arch=pruned follows gradients from one tensor of numbers .* takes ids \[B, 6\] int64, mask",
        ),
        ("grouped", r"arch=grouped"),
        ("reduced_depth", r"arch=reduced_depth"),
        ("reduced_growth", r"arch=reduced_growth.*DenseNet, found Net"),
    ],
)
def test_a_technique_that_has_nothing_to_work_on_says_so(written, technique, said):
    arch = arch_off()
    getattr(arch, technique).enabled = True
    with pytest.raises(UserError, match=said):
        network(written(BOTH), arch)


def test_low_rank_factors_a_network_of_any_inputs(written):
    arch = arch_off()
    arch.low_rank.enabled = True
    net = network(written(BOTH, f"({SCORES}, tokens)"), arch)
    assert [name for name, _ in net.module.named_children()] == ["embedding", "head"]
    assert len(net.module.head) == 2


def test_there_are_no_labels_for_inputs_of_ones_own(written):
    with pytest.raises(UserError, match=r"data=digits is of labelled images, and model=.* says by `inputs`"):
        check_data(written(BOTH), DataConfig(name="digits"))
