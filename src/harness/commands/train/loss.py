"""What is minimised: cross-entropy with the labels and, where there is a teacher, with its softened answers.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (the factor T^2 keeps the two gradients of one
size). Every head learns from both, an exit head with less weight (Teerapittayanon et al.: BranchyNet, ICPR 2016).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from harness.config import TrainConfig
from harness.techniques.arch.stages import LAST_HEAD


def loss_of(
    heads: Mapping[str, torch.Tensor], labels: torch.Tensor, teacher: torch.Tensor | None, options: TrainConfig
) -> torch.Tensor:
    """Return the loss (scalar) of the logits of all heads [B, C]; `teacher` is its logits [B, C], `labels` [B] int."""
    total = torch.zeros((), device=labels.device)
    weights = 0.0
    for name, logits in heads.items():
        weight = head_weight(name, options)
        wide = logits.float()
        loss = F.cross_entropy(wide, labels, label_smoothing=options.label_smoothing)
        if teacher is not None:
            soft = options.temperature
            distance = F.kl_div(
                F.log_softmax(wide / soft, dim=1),
                F.log_softmax(teacher.float() / soft, dim=1),
                reduction="batchmean",
                log_target=True,
            )
            loss = (1 - options.distillation) * loss + options.distillation * soft * soft * distance
        total = total + weight * loss
        weights += weight
    return total / weights


def head_weight(head: str, options: TrainConfig) -> float:
    """Return what a head's loss and accuracy weigh: the last head's 1."""
    return 1.0 if head == LAST_HEAD else options.exit_weight
