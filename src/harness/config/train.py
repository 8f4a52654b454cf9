"""The options of `python -m harness.train`, and of finding what it made."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.ranges import SHARE, Ranges, at_least, not_negative, one_of, positive


@dataclass
class CheckpointsConfig:
    """Where fine-tuned weights are kept, by model, architecture stack and data, and whether cells take them."""

    dir: str = "checkpoints"  # one folder a model, stack and data
    use: str = "auto"  # auto: where there are some | require: a cell without them is an error | never


@dataclass
class TrainConfig:
    """How a network is trained."""

    epochs: int = 80  # at most
    batch_size: int = 64  # of training
    # of AdamW, at its highest; a cosine brings it to zero. None: 4e-3 from random weights, 1e-3 from trained ones
    lr: float | None = None
    weight_decay: float = 0.05  # of AdamW
    warmup_epochs: float = 2.0  # until the learning rate is at its highest
    label_smoothing: float = 0.0  # share of the target spread over all classes
    precision: str = "auto"  # auto | fp32 | fp16 | bf16; auto: mixed with bf16 on a GPU that has it, fp32 on a CPU
    shift: float = 0.08  # largest random shift, as a share of the side
    mirror: bool | None = None  # random mirror images; None: as the data set allows
    teacher: str = "auto"  # auto: the unmodified model, where that has trained weights | none | a weights file of it
    distillation: float = 0.5  # share of the loss that follows the teacher
    temperature: float = 3.0  # of the distillation
    exit_weight: float = 0.5  # of an exit head's loss beside the last head's
    patience: int = 30  # epochs without a better validation before it stops
    resume: str = "auto"  # auto: go on where a killed training stopped | never: from the beginning
    seed: int = 0  # of the order, shifts and dropout


TRAIN_RANGES: Ranges = {
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "lr": positive(),
    "weight_decay": not_negative(),
    "warmup_epochs": not_negative(),
    "label_smoothing": SHARE,
    "precision": one_of("auto", "fp32", "fp16", "bf16"),
    "shift": not_negative(),
    "distillation": SHARE,
    "temperature": positive(),
    "exit_weight": not_negative(),
    "patience": at_least(1),
    "resume": one_of("auto", "never"),
    "seed": not_negative(),
}
