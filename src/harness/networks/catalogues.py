"""Other people's models by name: every classification model of torchvision's, and timm's where that is installed.

`timm/NAME`, or plainly NAME where torchvision has none of it.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

# The few that are built for one size of image and take it as an argument of another name.
_SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return torchvision's classifiers, without the quantised ones."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def nearest(name: str) -> str | None:
    """Return the name that was perhaps meant."""
    return next(iter(difflib.get_close_matches(name, torchvision_names(), n=1)), None)


def torchvision_spec(name: str) -> ModelSpec:
    """Return how torchvision makes the model called `name`, one of `torchvision_names()`."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).__name__
    return ModelSpec(name, lambda cfg: _create_torchvision(name, cfg), torchvision_weights=weights, settle=True)


def _create_torchvision(name: str, cfg: ModelConfig) -> nn.Module:
    import torchvision

    options: dict[str, Any] = {"num_classes": cfg.num_classes}
    for prefix, sized in _SIZED.items():
        if name.startswith(prefix):
            options |= sized(cfg.image_size)
    builder = torchvision.models.get_model_builder(name)
    if "init_weights" in _parameters(name):  # their own initialisation takes minutes and is not better for us
        options["init_weights"] = False
    try:
        network: nn.Module = builder(weights=None, **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"model={name} can't be built with model.image_size={cfg.image_size}: {error}") from error
    return network


def _parameters(name: str) -> set[str]:
    """Return which arguments the class behind a builder takes; builders take anything and pass it on."""
    import torchvision

    owner: Any = {"googlenet": "GoogLeNet", "inception_v3": "Inception3"}.get(name)
    return set(inspect.signature(getattr(torchvision.models, owner)).parameters) if owner else set()


TIMM = "timm/"


def has_timm() -> bool:
    """Return whether timm can be imported."""
    return importlib.util.find_spec("timm") is not None


def timm_knows(name: str) -> bool:
    """Return whether timm has a model of that name (without the prefix)."""
    if not has_timm():
        return False
    import timm

    return bool(timm.is_model(name))


def timm_spec(name: str) -> ModelSpec:
    """Return how timm makes a model; raises UserError if timm is not installed or has no such model."""
    bare = name.removeprefix(TIMM)
    if not has_timm():
        raise UserError(f"model={name} needs timm, which is not installed: pip install timm")
    if not timm_knows(bare):
        import timm

        near = timm.list_models(f"*{bare}*")[:3]
        hint = f": did you mean {', '.join(TIMM + match for match in near)}?" if near else ""
        raise UserError(f"model={name}: timm has no model {bare!r}{hint}")
    return ModelSpec(name, lambda cfg: _create_timm(bare, cfg), settle=True)


def _create_timm(name: str, cfg: ModelConfig) -> nn.Module:
    import timm

    try:
        try:
            return timm.create_model(name, num_classes=cfg.num_classes, img_size=cfg.image_size)
        except TypeError:  # convolutional networks take every size and no argument for it
            return timm.create_model(name, num_classes=cfg.num_classes)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"model=timm/{name} can't be built with model.image_size={cfg.image_size}: {error}") from error
