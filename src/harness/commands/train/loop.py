"""The training loop: epochs of steps, validation after each, the best one kept, an end when nothing gets better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.commands.train.batches import Batches, steps_of
from harness.commands.train.loss import LAST_HEAD, loss_of
from harness.commands.train.schedule import learning_rate
from harness.commands.train.state import BEST, Standing, restore, save, write_tensors
from harness.config import TrainConfig
from harness.system.errors import CellError
from harness.techniques.arch.heads import all_heads
from harness.techniques.arch.stages import Stage, stages

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
class Work:
    """What is trained on what."""

    network: nn.Module
    teacher: nn.Module | None
    train: Batches
    validation: Batches
    device: str
    mirror: bool
    highest_rate: float  # of learning
    options: TrainConfig


def train(work: Work, folder: Path, standing: Standing, told: Callable[[Epoch, Standing], None]) -> Standing:
    """Train from `standing` on, and return how it ended; `folder` then holds the best epoch's network.

    `told` is called after each epoch, once that is on the disk. Raises CellError where the loss is no number any more.
    """
    options = work.options
    parts = stages(work.network.eval())  # it traces shapes: before the network moves, and before gradients are on
    network = work.network.to(work.device)
    teacher = None if work.teacher is None else work.teacher.to(work.device).eval()
    if work.device == "cuda":
        network = network.to(memory_format=torch.channels_last)
        teacher = None if teacher is None else teacher.to(memory_format=torch.channels_last)
    network.requires_grad_(True)
    optimiser = _optimiser(network, options)
    dtype = compute_dtype(options.precision, work.device)
    scaler = torch.amp.GradScaler(work.device, enabled=dtype is torch.float16)
    if standing.epoch:
        restore(folder, network, optimiser)
        if standing.scale:
            scaler.load_state_dict({**scaler.state_dict(), "scale": standing.scale})
    steps = steps_of(work.train.count, options.batch_size)
    torch.backends.cudnn.benchmark = options.epochs * steps >= MANY_STEPS
    warmup = round(options.warmup_epochs * steps)
    for number in range(standing.epoch, options.epochs):
        if number - standing.best_epoch >= options.patience and number > 0:
            break
        torch.manual_seed(options.seed * 1_000_003 + number)  # for networks that drop out
        started = time.perf_counter()
        total = torch.zeros((), device=work.device)
        network.train()
        batches = work.train.shuffled(options.batch_size, options.seed, number, options.shift, work.mirror)
        for step, (images, labels) in enumerate(batches, start=number * steps):
            rate = learning_rate(step, options.epochs * steps, warmup, work.highest_rate)
            for group in optimiser.param_groups:
                group["lr"] = rate
            images = images.contiguous(memory_format=torch.channels_last) if work.device == "cuda" else images
            with _autocast(work.device, dtype):
                softened = None
                if teacher is not None:
                    with torch.no_grad():
                        softened = teacher(images)
                loss = loss_of(all_heads(parts, images), labels, softened, options)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            total += loss.detach()
        mean = float(total) / steps
        seconds = time.perf_counter() - started
        if not math.isfinite(mean):
            raise CellError(f"training diverged in epoch {number + 1}: the loss is {mean}; a lower train.lr may help")
        top1, score = validate(network, parts, work, dtype)
        is_best = score > standing.best_score
        standing = replace(standing, epoch=number + 1, scale=float(scaler.get_scale()) if scaler.is_enabled() else 0.0)
        if is_best:
            write_tensors(folder / BEST, network.state_dict(), {})
            standing = replace(standing, best_epoch=number + 1, best_score=score)
        save(folder, network, optimiser, standing)
        seen = steps * min(options.batch_size, work.train.count)
        told(Epoch(number + 1, mean, top1, rate, seen / seconds, is_best), standing)
    return standing


def validate(
    network: nn.Module, parts: tuple[Stage, ...], work: Work, dtype: torch.dtype | None
) -> tuple[dict[str, float], float]:
    """Return top-1 on the validation images by head, and one number to choose the best epoch by.

    That is the heads' mean, weighted as the loss is; less than one image's worth of it is decided by the loss.
    """
    network.eval()
    right: dict[str, torch.Tensor] = {}
    lost = torch.zeros((), device=work.device)
    with torch.inference_mode():
        for images, labels in work.validation.in_order(work.options.batch_size):
            with _autocast(work.device, dtype):
                heads = all_heads(parts, images)
            lost += loss_of(heads, labels, None, work.options) * len(labels)
            for name, logits in heads.items():
                right[name] = right.get(name, 0) + (logits.argmax(dim=1) == labels).sum()
    count = work.validation.count
    top1 = {name: float(value) / count for name, value in right.items()}
    weights = {name: 1.0 if name == LAST_HEAD else work.options.exit_weight for name in top1}
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


def _optimiser(network: nn.Module, options: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW; norms and biases are not drawn to zero."""
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in own if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in own if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)  # each step sets its rate
