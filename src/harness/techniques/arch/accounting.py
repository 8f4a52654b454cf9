"""What a network costs on paper: parameters, multiply-accumulates, and what a change of architecture saved."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harness.techniques.arch import low_rank
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.macs import count_macs
from harness.techniques.arch.stages import stages_at


@dataclass(frozen=True)
class StageCost:
    """One stage of a network, for one sample that reaches it."""

    name: str
    params: int
    gmacs: float
    share: float  # of the batch that reaches it


@dataclass(frozen=True)
class Accounting:
    """Costs of one sample; `gmacs` is the mean over a batch, between every sample leaving early and none."""

    params: int
    gmacs: float
    gmacs_all_exit: float
    gmacs_none_exit: float
    stages: tuple[StageCost, ...]
    notes: tuple[str, ...] = ()

    @property
    def params_m(self) -> float:
        """Return millions of parameters."""
        return self.params / 1e6


def account(model: nn.Module, image_size: int) -> Accounting:
    """Count `model` for images of `image_size` pixels. Parameters exactly (buffers are none), the exit head included.

    Early exit: stage 1 for all samples, stage 2 for the share that the policy lets through. `notes` holds remarks for
    the report, such as a rank that saves nothing.
    """
    costs = tuple(
        StageCost(stage.name, _params(stage.module), count_macs(stage.module, stage.input_shape) / 1e9, stage.share)
        for stage in stages_at(model, image_size)
    )
    mean = sum(cost.gmacs * cost.share for cost in costs)
    full = sum(cost.gmacs for cost in costs)
    remarks = low_rank.notes(model)
    if isinstance(model, EarlyExitNetwork):
        remarks += (
            f"early_exit: after {model.unit} {model.after_block}, {model.policy.exit_share:.0%} of a batch leaves; "
            f"saves {1 - mean / full:.1%} of the work, at most {1 - costs[0].gmacs / full:.1%}",
        )
    return Accounting(_params(model), mean, costs[0].gmacs, full, costs, remarks)


def _params(model: nn.Module) -> int:
    return sum(part.numel() for part in model.parameters())
