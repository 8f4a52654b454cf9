"""What a network costs on paper: parameters, multiply-accumulates, and what a change of architecture saved."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harness.techniques.arch import low_rank
from harness.techniques.arch.macs import count_macs
from harness.techniques.arch.stages import router_of, stages_at


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


def account(model: nn.Module, image_size: int) -> Accounting:
    """Count `model` for images of `image_size` pixels. Parameters exactly (buffers are none), the exit head included.

    A stage counts for the share of a batch that the router lets through to it. `notes` holds remarks for the report,
    such as a rank that saves nothing.
    """
    router = router_of(model)
    costs = tuple(
        StageCost(
            stage.name,
            _params(stage.module),
            count_macs(stage.module, stage.input_shape) / 1e9,
            router.share_reaching(number),
        )
        for number, stage in enumerate(stages_at(model, image_size))
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
