"""Every classification model of torchvision's, by its name there."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

# The few that are built for one size of image and are told so under a name of their own.
_SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}


@cache
def names() -> tuple[str, ...]:
    """Return torchvision's classifiers, without the quantised ones."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def nearest(name: str) -> str | None:
    """Return the name that was perhaps meant."""
    return next(iter(difflib.get_close_matches(name, names(), n=1)), None)


def spec(name: str) -> ModelSpec:
    """Return how torchvision makes the model called `name`, one of `names()`."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).__name__
    return ModelSpec(name, lambda cfg: _create(name, cfg), torchvision_weights=weights, settle=True)


def _create(name: str, cfg: ModelConfig) -> nn.Module:
    import torchvision

    options: dict[str, Any] = {"num_classes": cfg.num_classes}
    for prefix, sized in _SIZED.items():
        if name.startswith(prefix):
            options |= sized(cfg.image_size)
    builder = torchvision.models.get_model_builder(name)
    if "init_weights" in _parameters(name):  # their own drawing of weights takes minutes, and is no better for us
        options["init_weights"] = False
    try:
        network: nn.Module = builder(weights=None, **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"model={name} can't be built with model.image_size={cfg.image_size}: {error}") from error
    return network


def _parameters(name: str) -> set[str]:
    """Return what the class behind a builder can be told; builders take anything and pass it on."""
    import torchvision

    owner: Any = {"googlenet": "GoogLeNet", "inception_v3": "Inception3"}.get(name)
    return set(inspect.signature(getattr(torchvision.models, owner)).parameters) if owner else set()
