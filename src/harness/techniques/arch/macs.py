"""Multiply-accumulates of a network, counted by PyTorch's own flop counter on tensors without data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.networks.shapes import on_a_copy


def count_macs(model: nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of one sample of `sample_shape` (without the batch): convolutions and products.

    The counter gives two operations for each. Normalisation, activation and pooling count nothing, as usual.
    """
    return _count(model, sample_shape).get_total_flops() // 2


def count_macs_by_layer(model: nn.Module, sample_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the multiply-accumulates of each module that has any, by its name in `model`; parents hold the sum."""
    counts = _count(model, sample_shape).get_flop_counts()
    return {name.partition(".")[2]: sum(flops.values()) // 2 for name, flops in counts.items() if "." in name}


def _count(model: nn.Module, sample_shape: tuple[int, ...]) -> FlopCounterMode:
    def counted(network: nn.Module, images: torch.Tensor) -> FlopCounterMode:
        counter = FlopCounterMode(display=False)
        with _plain_attention(), counter:
            network(images)
        return counter

    return on_a_copy(model, sample_shape, counted)


@contextmanager
def _plain_attention() -> Iterator[None]:
    # The fused attention of nn.MultiheadAttention is one opaque operation that the counter can't see into.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
