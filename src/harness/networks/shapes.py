"""What comes out of a network, found on tensors without data: milliseconds, whatever the network's size."""

from __future__ import annotations

import copy

import torch
from torch import nn


def output_shapes(model: nn.Module, sample_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each output for one sample, without the batch."""
    with torch.no_grad():
        results = weightless(model)(torch.empty(1, *sample_shape, device="meta"))
    return tuple(tuple(part.shape[1:]) for part in (results if isinstance(results, tuple) else (results,)))


def weightless(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device: shapes without data; the weights are never copied."""
    memo: dict[int, object] = {id(part): torch.empty_like(part, device="meta") for part in model.buffers()}
    memo |= {id(part): nn.Parameter(torch.empty_like(part, device="meta")) for part in model.parameters()}
    return copy.deepcopy(model, memo)
