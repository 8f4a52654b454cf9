"""The loss: labels alone, or a teacher too; each head learns, an exit's less."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from harness.commands.train.loop import loss_of
from harness.config import TrainConfig

GENERATOR = torch.Generator().manual_seed(0)
LOGITS, EARLY, TEACHER = (torch.randn(16, 10, generator=GENERATOR) for _ in range(3))
LABELS = torch.arange(16) % 10


def test_without_a_teacher_it_is_cross_entropy():
    assert loss_of({"logits": LOGITS}, LABELS, None, TrainConfig()) == pytest.approx(
        F.cross_entropy(LOGITS, LABELS).item()
    )


def test_an_exit_head_counts_with_its_weight():
    found = loss_of({"exit_logits": EARLY, "logits": LOGITS}, LABELS, None, TrainConfig(exit_weight=0.25))
    early, late = F.cross_entropy(EARLY, LABELS), F.cross_entropy(LOGITS, LABELS)
    assert found.item() == pytest.approx(((0.25 * early + late) / 1.25).item())


def test_a_network_that_answers_as_its_teacher_has_nothing_to_learn_from_it():
    options = TrainConfig(distillation=1.0)
    assert loss_of({"logits": TEACHER}, LABELS, TEACHER, options).item() == pytest.approx(0, abs=1e-6)
    assert loss_of({"logits": LOGITS}, LABELS, TEACHER, options).item() > 0.1


def test_following_the_teacher_s_gradient_brings_the_answers_nearer():
    student = LOGITS.clone().requires_grad_(True)
    options = TrainConfig(distillation=1.0)
    before = loss_of({"logits": student}, LABELS, TEACHER, options)
    before.backward()
    after = loss_of({"logits": student.detach() - student.grad}, LABELS, TEACHER, options)
    assert after < before
