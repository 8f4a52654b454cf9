"""Checkpoints as people have them: loaded whatever wraps them, or the reason and what would be right in a line."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from harness import networks as models
from harness.config import DataConfig, ModelConfig
from harness.networks.data.preprocessing import preprocessing
from harness.networks.identity import fingerprint
from harness.system.errors import UserError


def tiny(**options):
    return ModelConfig(name="densenet_tiny", image_size=32, num_classes=10, **options)


@pytest.fixture(scope="module")
def weights():
    return models.build(tiny(seed=7)).state_dict()


def prefixed(weights, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("dp.pth", lambda weights: prefixed(weights, "module.")),
        ("compiled.pt", lambda weights: prefixed(weights, "_orig_mod.")),
        ("both.pt", lambda weights: prefixed(weights, "module._orig_mod.")),
        ("last.ckpt", lambda weights: {"state_dict": prefixed(weights, "model."), "pytorch-lightning_version": "2.5"}),
        ("best.pth.tar", lambda weights: {"epoch": 3, "state_dict": prefixed(weights, "module.")}),
        ("msd.pt", lambda weights: {"epoch": 3, "model_state_dict": weights, "optimizer": {}}),
        ("net.pt", lambda weights: {"net": weights, "acc": 1.0}),
        ("ema.pt", lambda weights: {"model": weights, "model_ema": weights}),
        ("pytorch_model.bin", lambda weights: weights),
        ("without_a_suffix", lambda weights: weights),
    ],
)
def test_what_wraps_weights_is_taken_off(weights, tmp_path, name, wrapped):
    torch.save(wrapped(weights), tmp_path / name)
    found = models.build(tiny(weights=str(tmp_path / name)))
    assert fingerprint(found) == fingerprint(models.build(tiny(seed=7)))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "keys.pt",
            {"epoch": 3, "generator": {"a": 1}},
            r"holds no state dict of tensors: its keys are epoch, generator",
        ),
        ("list.pt", [1, 2], "holds list, not a state dict"),
        (
            "args.pt",
            {"model": {}, "args": argparse.Namespace(lr=1)},
            r"it holds argparse.Namespace, which unpickling would",
        ),
        (
            "whole.pt",
            torch.nn.Linear(2, 2),
            r"it holds torch.nn.modules.linear.Linear, .*torch.save\(model.state_dict",
        ),
        ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        ("empty.pt", b"", "empty.pt is empty"),
    ],
)
def test_what_holds_no_weights_says_what_it_holds(tmp_path, name, content, said):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=said) as caught:
        models.build(tiny(weights=str(tmp_path / name)))
    assert "\x1b" not in str(caught.value)


def test_metadata_that_only_looks_like_ours_is_refused_in_a_line(weights, tmp_path):
    path = tmp_path / "meta.safetensors"
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, path, {"harness.preprocessing": "not json"}
    )
    with pytest.raises(UserError, match=r"metadata harness.preprocessing is not what harness.train writes: 'not json'"):
        preprocessing(tiny(weights=str(path)), DataConfig())
