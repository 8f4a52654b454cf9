"""A technique: the example network in three stages, which an image leaves as soon as a stage's head is sure enough."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.networks.inputs import image_inputs, one_tensor
from harness.system.errors import UserError
from harness.techniques.arch.stages import Router, Stage

if TYPE_CHECKING:
    from torch import nn

name = "two_exits"


@dataclass
class Options:
    """Leave the network after its first or second convolution."""

    enabled: bool = False
    share: float = 0.5  # of the images that leave after the first one
    seed: int = 4  # of the heads' weights


@dataclass(frozen=True)
class Margin(Router):
    """An image leaves where the best answer leads the second best by a `margin` that lets `share` leave at first."""

    share: float
    margin: float = 0.0  # until it is calibrated, all leave

    heads: ClassVar[tuple[str, ...]] = ("first_logits", "second_logits", "logits")

    @property
    def description(self) -> str:
        """For the notes of a row."""
        return f"two_exits: an image leaves where the best logit leads by {self.margin:g}"

    def leaves(self, stage: int, logits: Any) -> Any:
        """Return [B] bool of logits [B, classes], an array or a tensor."""
        return lead(logits) >= self.margin

    def share_reaching(self, stage: int, batch_size: int | None = None) -> float:
        """Return what is expected: as many leave after the second stage as after the first."""
        return (1 - self.share) ** stage

    def calibrated(self, heads: Callable[[], Mapping[str, np.ndarray]], labels: np.ndarray | None) -> Margin:
        """Return the router with its margin chosen on images that are not measured."""
        return replace(self, margin=float(np.quantile(lead(heads()["first_logits"]), 1 - self.share)))


def lead(logits: Any) -> Any:
    """Return [B], by how much the best of logits [B, classes] leads, of an array or a tensor."""
    ranked = np.sort(logits, axis=1) if isinstance(logits, np.ndarray) else logits.sort(dim=1).values
    return ranked[:, -1] - ranked[:, -2]


def check(model: nn.Module, options: Options) -> None:
    """Raise UserError for a network that is not a chain of three convolutions."""
    if len(list(model.children())) != 6:
        raise UserError("arch=two_exits: only model=example_net can be left after each of its convolutions")


def apply(model: nn.Module, options: Options) -> nn.Module:
    """Return a copy of `model` in three stages."""
    import torch
    from torch import nn

    from harness.networks.determinism import seeded

    class WithHead(nn.Module):
        """Features in; features and a head's logits out."""

        def __init__(self, trunk: nn.Module, channels: int) -> None:
            super().__init__()
            self.trunk = trunk
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Return both."""
            features = self.trunk(images)
            return features, self.head(features)

    class InThreeStages(nn.Module):
        """What a technique returns that splits a network: `router` and `stages`."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = WithHead(layers[0], 16), WithHead(layers[1], 32)
            self.third = nn.Sequential(*layers[2:])
            self.router = Margin(options.share)

        def stages(self, side: int) -> tuple[Stage, ...]:
            """Return the stages for images of `side` pixels; each convolution halves the side."""
            half, quarter = (side + 1) // 2, (side + 3) // 4
            first, second, last = self.router.heads
            return (
                Stage("first", self.first, image_inputs(side), ("features16", first)),
                Stage("second", self.second, one_tensor("features16", (16, half, half)), ("features32", second)),
                Stage("third", self.third, one_tensor("features32", (32, quarter, quarter)), (last,)),
            )

    layers = list(copy.deepcopy(model).children())
    classes = layers[-1].out_features
    with seeded(options.seed):
        changed = InThreeStages()
    return changed.eval().requires_grad_(False)
