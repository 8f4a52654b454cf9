"""What a network costs on paper: parameters, multiply-accumulates, and what a change of architecture saved.

Multiply-accumulates are counted by PyTorch's own flop counter on tensors without data. Torch is imported where it
counts: an `Accounting` travels to processes that have no use for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.techniques.arch.stages import router_of, stages

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from harness.networks.inputs import Inputs


@dataclass(frozen=True)
class StageCost:
    """One stage of a network, for one sample that reaches it."""

    name: str
    params: int
    gmacs: float
    share: float  # of the batch that reaches it


@dataclass(frozen=True)
class Accounting:
    """Costs of one sample; `gmacs` is the mean over a batch, between all leaving after the first stage and none."""

    params: int
    gmacs: float
    gmacs_all_exit: float
    gmacs_none_exit: float
    stages: tuple[StageCost, ...]
    notes: tuple[str, ...] = ()

    @property
    def stage_gmacs(self) -> tuple[float, ...]:
        """10^9 multiply-accumulates of each stage, for a sample that reaches it."""
        return tuple(stage.gmacs for stage in self.stages)

    @property
    def params_m(self) -> float:
        """Return millions of parameters."""
        return self.params / 1e6


def account(model: nn.Module, side: int | None = None) -> Accounting:
    """Count `model` for images of `side` pixels (None: for what it was built for), the exit head included.

    Parameters are exact; buffers are none. A stage counts for the share of a batch that the router lets through to it.
    `notes` holds remarks for the report, such as a rank that saves nothing.
    """
    from harness.techniques.arch import low_rank

    router = router_of(model)
    costs = tuple(
        StageCost(
            stage.name,
            _params(stage.module),
            count_macs(stage.module, stage.inputs) / 1e9,
            router.share_reaching(number),
        )
        for number, stage in enumerate(stages(model, side))
    )
    gmacs = [cost.gmacs for cost in costs]
    mean, full = router.gmacs(gmacs), sum(gmacs)
    remarks = low_rank.notes(model)
    if router.description:
        saved = f"saves {1 - mean / full:.1%} of the work, at most {1 - gmacs[0] / full:.1%}"
        remarks += (f"{router.description}; {saved}",)
    return Accounting(_params(model), mean, gmacs[0], full, costs, remarks)


def _params(model: nn.Module) -> int:
    return sum(part.numel() for part in model.parameters())


def count_macs(model: nn.Module, inputs: Inputs) -> int:
    """Return the multiply-accumulates of one sample of `inputs`: convolutions and products.

    The counter gives two operations for each. Normalisation, activation and pooling count nothing, as usual.
    """
    return _count(model, inputs).get_total_flops() // 2


def count_macs_by_layer(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Return the multiply-accumulates of each module that has any, by its name in `model`; parents hold the sum."""
    counts = _count(model, inputs).get_flop_counts()
    return {name.partition(".")[2]: sum(flops.values()) // 2 for name, flops in counts.items() if "." in name}


def _count(model: nn.Module, inputs: Inputs) -> FlopCounterMode:
    from torch.utils.flop_counter import FlopCounterMode

    from harness.networks.shapes import on_a_copy

    def counted(network: nn.Module, values: Sequence[torch.Tensor]) -> FlopCounterMode:
        counter = FlopCounterMode(display=False)
        with _plain_attention(), counter:
            inputs.call(network, values)
        return counter

    return on_a_copy(model, inputs, counted)


@contextmanager
def _plain_attention() -> Iterator[None]:
    import torch

    # The fused attention of nn.MultiheadAttention is one opaque operation that the counter can't see into.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
