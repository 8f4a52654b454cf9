"""The training loop: epochs of steps, validation after each, the best one kept, an end when nothing gets better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from harness.commands.train.state import BEST, TrainingState, restore, save, write_tensors
from harness.commands.train.training_batches import Batches, steps_of
from harness.config import TrainConfig
from harness.system.errors import CellError
from harness.techniques.arch.stages import LAST_HEAD, Stage, all_heads, stages

MANY_STEPS = 2000  # below it, trying every algorithm of each convolution takes longer than the best one saves


@dataclass(frozen=True)
class Epoch:
    """What one epoch was like."""

    number: int  # the first is 1
    loss: float  # mean over its steps
    top1: dict[str, float]  # on the validation images, by head
    rate: float  # learning rate of its last step
    images_per_s: float  # of its steps alone
    is_best: bool


@dataclass(frozen=True)
class Lesson:
    """What is trained on what."""

    network: nn.Module
    teacher: nn.Module | None
    train: Batches
    validation: Batches
    device: str
    mirror: bool
    highest_rate: float  # of learning
    options: TrainConfig


def train(
    lesson: Lesson, folder: Path, reached: TrainingState, on_epoch: Callable[[Epoch, TrainingState], None]
) -> TrainingState:
    """Train from `reached` on, and return how it ended; `folder` then holds the best epoch's network.

    `on_epoch` is called after each epoch, once its state is on the disk. Raises CellError when the loss is not finite.
    """
    options = lesson.options
    trainer = Trainer(lesson)
    if reached.epoch:
        restore(folder, trainer.network, trainer.optimiser)
        trainer.restore_scale(reached.scale)
    for number in range(reached.epoch, options.epochs):
        if number - reached.best_epoch >= options.patience and number > 0:
            break
        loss, rate, images_per_s = trainer.epoch(number)
        if not math.isfinite(loss):
            raise CellError(f"training diverged in epoch {number + 1}: the loss is {loss}; a lower train.lr may help")
        top1, score = validate(trainer.network, trainer.parts, lesson, trainer.dtype)
        is_best = score > reached.best_score
        reached = replace(reached, epoch=number + 1, scale=trainer.scale)
        if is_best:
            write_tensors(folder / BEST, trainer.network.state_dict(), {})
            reached = replace(reached, best_epoch=number + 1, best_score=score)
        save(folder, trainer.network, trainer.optimiser, reached)
        on_epoch(Epoch(number + 1, loss, top1, rate, images_per_s, is_best), reached)
    return reached


class Trainer:
    """A network on its device with its optimiser, which an epoch brings one step after the other further."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        # it traces shapes: before the network moves, and before gradients are on
        self.parts = stages(lesson.network.eval())
        self.network = _placed(lesson.network, lesson.device).requires_grad_(True)
        self.teacher = None if lesson.teacher is None else _placed(lesson.teacher, lesson.device).eval()
        self.optimiser = _optimiser(self.network, lesson.options)
        self.dtype = compute_dtype(lesson.options.precision, lesson.device)
        self._scaler = torch.amp.GradScaler(lesson.device, enabled=self.dtype is torch.float16)
        self._steps = steps_of(lesson.train.count, lesson.options.batch_size)  # of an epoch
        torch.backends.cudnn.benchmark = lesson.options.epochs * self._steps >= MANY_STEPS

    @property
    def scale(self) -> float:
        """The scale of fp16 gradients; 0 where they have none."""
        return float(self._scaler.get_scale()) if self._scaler.is_enabled() else 0.0

    def restore_scale(self, scale: float) -> None:
        """Go on with a scale that was in use."""
        if scale:
            self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale})

    def epoch(self, number: int) -> tuple[float, float, float]:
        """Train one epoch; return the mean loss of its steps, the learning rate of the last one, and images/s."""
        lesson, options, steps = self.lesson, self.lesson.options, self._steps
        torch.manual_seed(options.seed * 1_000_003 + number)  # for networks that drop out
        started = time.perf_counter()
        total = torch.zeros((), device=lesson.device)
        self.network.train()
        batches = lesson.train.shuffled(options.batch_size, options.seed, number, options.shift, lesson.mirror)
        for step, (images, labels) in enumerate(batches, start=number * steps):
            warmup = round(options.warmup_epochs * steps)
            rate = learning_rate(step, options.epochs * steps, warmup, lesson.highest_rate)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            total += self._step(images, labels)
        mean = float(total) / steps
        seen = steps * min(options.batch_size, lesson.train.count)
        return mean, rate, seen / (time.perf_counter() - started)

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Take one step; return its loss, [] on the device."""
        if self.lesson.device == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        with _autocast(self.lesson.device, self.dtype):
            softened = None
            if self.teacher is not None:
                with torch.no_grad():
                    softened = self.teacher(images)
            loss = loss_of(all_heads(self.parts, (images,)), labels, softened, self.lesson.options)
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self.optimiser)
        self._scaler.update()
        return loss.detach()


def validate(
    network: nn.Module, parts: tuple[Stage, ...], lesson: Lesson, dtype: torch.dtype | None
) -> tuple[dict[str, float], float]:
    """Return top-1 on the validation images by head, and one number to choose the best epoch by.

    That is the heads' mean, weighted as the loss is; less than one image's worth of it is decided by the loss.
    """
    network.eval()
    right: dict[str, torch.Tensor] = {}
    lost = torch.zeros((), device=lesson.device)
    with torch.inference_mode():
        for images, labels in lesson.validation.in_order(lesson.options.batch_size):
            with _autocast(lesson.device, dtype):
                heads = all_heads(parts, (images,))
            lost += loss_of(heads, labels, None, lesson.options) * len(labels)
            for name, logits in heads.items():
                right[name] = right.get(name, 0) + (logits.argmax(dim=1) == labels).sum()
    count = lesson.validation.count
    top1 = {name: float(value) / count for name, value in right.items()}
    weights = {name: head_weight(name, lesson.options) for name in top1}
    mean = sum(weights[name] * value for name, value in top1.items()) / sum(weights.values())
    return top1, mean + (1 / (1 + float(lost) / count)) / (10 * count)


def compute_dtype(precision: str, device: str) -> torch.dtype | None:
    """Return what mixed precision computes in, None for plain fp32."""
    if precision == "auto":
        if device == "cpu":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _autocast(device: str, dtype: torch.dtype | None) -> Any:
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


def _placed(network: nn.Module, device: str) -> nn.Module:
    """Return the network on its device, there in the layout that its convolutions are fastest in."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if device == "cuda" else network


def _optimiser(network: nn.Module, options: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW; norms and biases are not drawn to zero."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)  # each step sets its rate


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


def learning_rate(step: int, steps: int, warmup_steps: int, highest: float) -> float:
    """Return the rate of step `step` of `steps`, the first of which is 0."""
    if step < warmup_steps:
        return highest * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return highest * 0.5 * (1 + math.cos(math.pi * done))
