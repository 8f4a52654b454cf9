"""Trained weights into a network, from a file or by torchvision's name for them; and random weights made verifiable.

An untrained network must answer differently to different images. As torchvision draws random weights, many networks
don't: the last layer of a ViT is all zeros; in inference, where batch norms have seen no data, EfficientNet-B0's logits
are of the order of 1e-14, which half precision rounds to nothing; the blocks of a ConvNeXt are scaled by 1e-6 and might
as well be missing. A wrong engine would pass every comparison there. Trained weights are not changed.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.networks.determinism import seeded, single_threaded
from harness.networks.model_spec import WEIGHTS_SUFFIXES, ModelSpec, check_weights_file, is_weights_file
from harness.system.counts import counted
from harness.system.errors import UserError, first_line

_SAMPLES = 8
_SEED = 24_601  # of the images that batch norms measure: no measured input has it
_SCALE_NAME = re.compile(r"(^|\.)(layer_scale|gamma)(_?\d+)?$")
_MUTED = 1e-2  # a branch scaled by less than this leaves no trace in half precision


def settle(network: nn.Module, image_size: int) -> None:
    """Change random weights in place: draw layers that are all zeros, open muted branches, measure batch norms.

    Draws from torch's global generator, already seeded. The layers that batch norms see decide their statistics, as one
    pass over a seeded batch in training mode would; nothing else of `network` is put into that mode.
    """
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d) and not part.weight.any():
                part.reset_parameters()
        for name, scale in network.named_parameters():
            if _SCALE_NAME.search(name) and float(scale.abs().max()) < _MUTED:
                scale.fill_(1.0)
        _measure_batch_norms(network, image_size)


def _measure_batch_norms(network: nn.Module, image_size: int) -> None:
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d) and part.track_running_stats]
    if not norms:
        return
    network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None  # the plain mean over what it sees, which is one batch
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(_SAMPLES, 3, image_size, image_size, generator=generator)
    with single_threaded(), seeded(_SEED):
        network(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()


_EXTRA = "_extra_state"  # how torch names what a module's `get_extra_state` gave
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
_LFS = b"version https://git-lfs"
_PICKLED = re.compile(r"(?:GLOBAL|global:?|Unsupported class|class) +(?:GLOBAL +)?([A-Za-z_][\w.]*\.\w+)")
_DOWNLOAD_TIMEOUT_S = 30.0


def load_weights(network: nn.Module, spec: ModelSpec, weights: str) -> None:
    """Fill `network` with `weights`: a file of torch's or safetensors', or a torchvision weights name.

    Raises UserError where there is no such file or name, the file can't be read, nothing could be fetched, or
    names and shapes differ from the network's.
    """
    path = Path(weights).expanduser()
    state = _unwrapped(_read(path), network) if is_weights_file(weights) else _fetch(spec, weights)
    state = {spec.rename_key(key): tensor for key, tensor in state.items()}
    _check_match(network, state, weights)
    fill(network, state)


def fill(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load `tensors` into `network`; other state than tensors (`get_extra_state`) is not changed."""
    extra_state = {name: value for name, value in network.state_dict().items() if not isinstance(value, torch.Tensor)}
    network.load_state_dict(extra_state | dict(tensors))


def _read(path: Path) -> dict[str, torch.Tensor]:
    check_weights_file(str(path))
    _check_content(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each fail in their own way
        raise UserError(
            f"model.weights={path} can't be read as a state dict of tensors: {_unreadable(error)}"
        ) from error
    return _state_dict(found, path)


def _check_content(path: Path) -> None:
    """Raise UserError for a file in which there are no weights, whatever its name."""
    with open(path, "rb") as file:
        head = file.read(len(_LFS))
    if not head:
        raise UserError(f"model.weights={path} is empty")
    if head == _LFS:
        raise UserError(f"model.weights={path} is a pointer of Git LFS, not the file itself: git lfs pull fetches it")


def _unreadable(error: Exception) -> str:
    """Return why a file can't be read; torch's own words are advice to let it run code."""
    met = _PICKLED.search(str(error))
    if met is None:
        return first_line(error)[:160]
    return (
        f"it holds {met[1]}, which unpickling would run code for; "
        "save the weights alone, where they were made: torch.save(model.state_dict(), ...)"
    )


def _state_dict(found: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by name; training scripts often keep them beside the optimiser's state."""
    if not isinstance(found, dict):
        raise UserError(f"model.weights={path} holds {type(found).__name__}, not a state dict of tensors")
    state = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)), found)
    state = {name: value for name, value in state.items() if not str(name).endswith(_EXTRA)}
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        keys = ", ".join(map(str, list(found)[:8]))
        raise UserError(
            f"model.weights={path} holds no state dict of tensors: its keys are {keys or 'none'}, "
            f"and weights are looked for under {', '.join(_WRAPPERS)}"
        )
    return state


def _unwrapped(state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict without what wraps all of its names: DataParallel, torch.compile, a trainer's module."""
    expected = network.state_dict()
    while True:
        prefix = next(
            (candidate for candidate in _PREFIXES if state and all(name.startswith(candidate) for name in state)), None
        )
        if prefix is None or any(name.startswith(prefix) for name in expected):
            return state
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _fetch(spec: ModelSpec, name: str) -> dict[str, torch.Tensor]:
    import torchvision.models

    known = getattr(torchvision.models, spec.torchvision_weights) if spec.torchvision_weights else None
    members = known.__members__ if known is not None else {}
    if name not in members:
        choices = f", or one of torchvision's {', '.join(members)}" if members else ""
        raise UserError(
            f"model.weights={name} is not known for {spec.name}\n"
            f"It may be null (random from model.seed), a file that ends in {', '.join(WEIGHTS_SUFFIXES)}{choices}"
        )
    weights = members[name]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)  # torch.hub sets none: a dropped packet would hang the sweep
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.weights={name} could not be fetched from {weights.url}: {first_line(error)[:160]}\n"
            "Fetch it elsewhere and give the file's path, or leave model.weights=null for random weights"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _check_match(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    expected = {name: value for name, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    # Older checkpoints lack this counter; torch fills it in.
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        shown = f"first missing {missing[0]}" if missing else f"first unknown {extra[0]}"
        raise UserError(
            f"model.weights={source} is for another network: "
            f"it lacks {counted(len(missing), 'tensor')} and has {len(extra)} unknown ({shown})"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise UserError(
                f"model.weights={source} is for another network: {key} is {tuple(tensor.shape)} "
                f"there and {tuple(expected[key].shape)} here (is model.num_classes right?)"
            )
