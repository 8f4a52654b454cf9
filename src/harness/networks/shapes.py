"""Looking at a network by running a copy of it: on tensors without data where it can be, else with its own weights.

A network may be anybody's code, so nothing is written onto it and it is never run itself: running may leave traces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from harness.networks.model_spec import carry_image_side, image_side
from harness.system.errors import UserError, kind_and_first_line

T = TypeVar("T")
_SEED = 24_601  # of the images that a network is looked at with: no measured input has it


def output_shapes(model: nn.Module, sample_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each output for one sample, without the batch."""
    results = on_a_copy(model, sample_shape, lambda network, images: network(images))
    return tuple(tuple(part.shape[1:]) for part in (results if isinstance(results, tuple) else (results,)))


def on_a_copy(model: nn.Module, sample_shape: tuple[int, ...], run: Callable[[nn.Module, torch.Tensor], T]) -> T:
    """Return what `run` gives for a copy of `model` and one sample; it may put hooks onto that copy.

    First without data, which takes milliseconds whatever the network's size. Many networks can't be run so (a tensor
    made in `forward` or kept as a plain attribute, a branch on values): these are run with their weights on the CPU, in
    another copy, so `run` is called once more. What it raises there is raised.
    """
    with torch.no_grad():
        try:
            return run(weightless(model), torch.empty(1, *sample_shape, device="meta"))
        except Exception:  # whatever somebody's code says of a tensor without data
            return run(copied(model, own_weights=False), sample_images(1, sample_shape))


def sample_images(batch_size: int, sample_shape: tuple[int, ...]) -> torch.Tensor:
    """Return [batch_size, *sample_shape] float32 from a standard normal, always the same."""
    return torch.randn(batch_size, *sample_shape, generator=torch.Generator().manual_seed(_SEED))


def weightless(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device: shapes without data; the weights are never copied."""
    memo: dict[int, object] = {id(part): torch.empty_like(part, device="meta") for part in _computed(model)}
    memo |= {id(part): torch.empty_like(part, device="meta") for part in model.buffers()}
    memo |= {id(part): nn.Parameter(torch.empty_like(part, device="meta")) for part in model.parameters()}
    return _copy(model, memo)


def copied(model: nn.Module, own_weights: bool = True) -> nn.Module:
    """Return a copy of `model`; without `own_weights` it shares its parameters (not its buffers) with `model`.

    Raises UserError for a network that can't be copied.
    """
    memo: dict[int, object] = {id(part): part.detach().clone() for part in _computed(model)}
    if not own_weights:
        memo |= {id(part): part for part in model.parameters()}
    try:
        return _copy(model, memo)
    except Exception as error:  # a lock, an open file, a generator: whatever it holds that has no copy
        raise UserError(
            f"{type(model).__name__} can't be copied (copy.deepcopy), and techniques change a copy: "
            f"{kind_and_first_line(error)[:180]}"
        ) from error


def for_inference(network: nn.Module) -> nn.Module:
    """Put `network` into eval mode, without gradients, and return it; a `train()` of its own may return nothing."""
    network.eval()
    network.requires_grad_(False)
    return network


def _copy(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    changed = copy.deepcopy(model, memo)
    side = image_side(model)
    if side is not None:  # a class may copy itself in its own way
        carry_image_side(changed, side)
    return changed


def _computed(model: nn.Module) -> list[torch.Tensor]:
    """Return tensors kept as plain attributes that were computed from others: deepcopy refuses these (weight norm)."""
    held = (value for part in model.modules() for value in vars(part).values())
    return [value for value in held if isinstance(value, torch.Tensor) and not value.is_leaf]
