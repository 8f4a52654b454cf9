"""A network is looked at alone, before anything is measured: what is wrong with it is not an engine's fault."""

import pytest
import torch

from harness import networks as models
from harness.config import ModelConfig
from harness.networks.identity import fingerprint
from harness.system.errors import UserError
from harness.techniques.arch.accounting import account


@pytest.fixture(autouse=True)
def _foreign(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tests"))


def foreign(name, **options):
    return ModelConfig(f"foreign_networks:{name}", **{"image_size": 64, "num_classes": 10, **options})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a_dict", r"gives a dict \(logits \[B, 10\]\), not \[B, 10\]"),
        ("a_list", r"gives a list \(\[B, 10\]\), not \[B, 10\]"),
        ("nothing", r"gives a NoneType, not \[B, 10\]"),
        ("whole_numbers", r"computes in torch.int64, and the baseline is fp32 by definition"),
        (
            "half",
            r"holds stem.0.weight in torch.float16, and the baseline is fp32 by definition: return it with .float()",
        ),
        ("double", r"holds stem.0.weight in torch.float64"),
        ("autocast", r"computes in torch.bfloat16, and the baseline is fp32"),
        ("dropping", r"answers the same images differently each time, by [\d.]+ of its range"),
        ("counting", r"answers the same images differently each time, by 1 of its range"),
        ("infinite", r"answers infinity in plain PyTorch on the CPU"),
        ("without_data", r"has its stem.0.weight on meta: return the network on the CPU"),
        ("scripted", r"is TorchScript.*return the nn.Module"),
        ("compiled", r"compiled is compiled by torch.compile already"),
        ("compiled_part", r"its part stem is compiled by torch.compile already"),
        ("parallel", r"is wrapped in DataParallel: return what is inside, its .module"),
        ("one_at_a_time", r"can't be run on images \[2, 3, 64, 64\] \(model.image_size=64\): RuntimeError"),
        ("failing", r"AttributeError: 'Tensor' object has no attribute 'no_such_thing' \(foreign_networks.py:\d+\)$"),
    ],
)
def test_a_network_that_can_not_be_compared_with_anything_says_why(name, said):
    with pytest.raises(UserError, match=said):
        models.build(foreign(name))


@pytest.mark.parametrize(
    "name",
    ["coordinates", "normalising", "branching", "cached", "weight_norm", "lazy", "extra_state", "silent_train",
     "paired", "read_only", "sized"],
)  # fmt: skip
def test_a_network_that_runs_in_pytorch_is_taken_and_counted(name):
    network = models.build(foreign(name))
    assert not network.training
    assert network(models.example_input(foreign(name), 3)).shape == (3, 10)
    assert fingerprint(network) == fingerprint(models.build(foreign(name), checked=True))
    assert account(network, 64).gmacs > 0


def test_a_resolution_of_its_own_is_left_alone_and_its_work_is_counted():
    network = models.build(foreign("sized"))
    assert (network.image_size, models.image_side(network)) == (128, 64)
    stem, body, fc = 64 * 64 * 27 * 16, 64 * 64 * 9 * 16 * 16, 16 * 10  # at 128 pixels, which the stem halves
    assert account(network, 64).gmacs == pytest.approx((stem + body + fc) / 1e9)


def test_looking_at_a_network_leaves_no_trace_in_it():
    import foreign_networks

    network = foreign_networks.Counting(10)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    account(network.eval(), 64)
    with pytest.raises(UserError, match="differently"):
        models.build(foreign("counting"))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_weights_of_a_network_with_state_that_is_no_tensor_are_loaded(tmp_path):
    network = models.build(foreign("extra_state", seed=3))
    torch.save(network.state_dict(), tmp_path / "extra.pt")
    loaded = models.build(foreign("extra_state", weights=str(tmp_path / "extra.pt")))
    assert fingerprint(loaded) == fingerprint(network) != fingerprint(models.build(foreign("extra_state")))


def test_weights_that_are_not_finite_are_named_with_their_file(tmp_path):
    network = models.build(foreign("normalising"))
    network.fc.weight.data[3, 2] = float("nan")
    torch.save(network.state_dict(), tmp_path / "nan.pt")
    with pytest.raises(
        UserError, match=r"answers NaN in plain PyTorch.*: its fc.weight holds values that are not finite .*nan.pt"
    ):
        models.build(foreign("normalising", weights=str(tmp_path / "nan.pt")))


QUITS = "import sys\nprint('no GPU, leaving')\nsys.exit({code})\n"
PARSES = """
import argparse
from torch import nn
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, {options})
args = parser.parse_args()
def net(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            QUITS.format(code=0),
            r"quits_{n} can't be imported: SystemExit: it ends the program with 0 \(quits_{n}.py:3\)$",
        ),
        (QUITS.format(code="'no GPU'"), r"it ends the program with 'no GPU' \(quits_{n}.py:3\)$"),
        ("def net():\n    exit(0)\n", r"net\(\) failed: SystemExit: it ends the program with 0 \(quits_{n}.py:2\)$"),
        ("import torch\nraise RuntimeError('two\\nlines')\n", r"RuntimeError: two \(quits_{n}.py:2\)$"),
        ("def net(:\n", r"SyntaxError: .* \(quits_{n}.py:1\)$"),
        ("import no_such_package\n", r"No module named 'no_such_package' \(quits_{n}.py:1\)$"),
        (PARSES.format(options="required=True"), r"SystemExit: it ends the program with 2 \(quits_{n}.py:6\)$"),
    ],
)
def test_code_that_fails_or_ends_the_program_is_reported_with_its_file_and_line(
    source, said, tmp_path, monkeypatch, request
):
    name = f"quits_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=said.replace("quits_{n}", name)):
        models.build(ModelConfig(f"{name}:net", image_size=64, num_classes=10))


def test_our_arguments_are_not_shown_to_somebody_elses_parser(tmp_path, monkeypatch):
    (tmp_path / "parses_its_arguments.py").write_text(PARSES.format(options="default=0.1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["harness", "protocol=quick"])
    assert models.build(ModelConfig("parses_its_arguments:net", image_size=64, num_classes=10)) is not None
