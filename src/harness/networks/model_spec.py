"""What is known of a model before it is made, and the list that families add their models to: DenseNets at once.

DenseNets are as torchvision builds them: DenseNet121, and a slim one for quick trials.
Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def _unchanged(key: str) -> str:
    return key


@dataclass(frozen=True)
class ModelSpec:
    """How one model is made. `create` draws its weights from torch's global generator, already seeded."""

    name: str
    create: Callable[[ModelConfig], nn.Module]
    min_image_size: int = 1  # pixels; below this a feature map vanishes
    torchvision_weights: str | None = None  # name of the enum in torchvision.models
    rename_key: Callable[[str], str] = _unchanged  # parameter name in old checkpoints -> name now
    settle: bool = False  # random weights are made fit to be verified: see settle.py
    inputs: Any = None  # a user's `inputs(batch_size)`, not looked at yet; None: square images


WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".tar", ".bin")


def is_weights_file(weights: str) -> bool:
    """Return whether `model.weights` names a file, there or not; else it is one of torchvision's names."""
    path = Path(weights).expanduser()
    return path.suffix in WEIGHTS_SUFFIXES or path.is_file()


def check_weights_file(weights: str) -> None:
    """Raise UserError if `model.weights` names a file that is not there."""
    if is_weights_file(weights) and not Path(weights).expanduser().is_file():
        raise UserError(f"model.weights={weights}: there is no such file")


registered: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add a model; raises ValueError if the name is taken (a bug in our code, not a user's mistake)."""
    if spec.name in registered:
        raise ValueError(f"model {spec.name!r} is registered twice")
    registered[spec.name] = spec


# Five halvings (two in the stem, three transitions) leave one pixel of 29: torchvision states the same minimum.
MIN_IMAGE_SIZE = 29

# Published checkpoints come from a time when module names could hold dots: `denselayer1.norm.1.weight`.
_DOTTED = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")


def undotted(key: str) -> str:
    """Return the present name of a parameter in a checkpoint of any age."""
    return _DOTTED.sub(r"\1\2", key)


def _densenet121(cfg: ModelConfig) -> nn.Module:
    from torchvision.models import densenet121

    network: nn.Module = densenet121(weights=None, num_classes=cfg.num_classes)
    return network


def _densenet_tiny(cfg: ModelConfig) -> nn.Module:
    # Same class and same four stages, so every technique applies, and a quartet takes seconds.
    from torchvision.models import DenseNet

    network: nn.Module = DenseNet(
        growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, bn_size=2, num_classes=cfg.num_classes
    )
    return network


register(ModelSpec("densenet121", _densenet121, MIN_IMAGE_SIZE, "DenseNet121_Weights", undotted))
register(ModelSpec("densenet_tiny", _densenet_tiny, MIN_IMAGE_SIZE))
