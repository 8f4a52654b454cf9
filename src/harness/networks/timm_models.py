"""timm's models by name, where timm is installed: `timm/NAME`, or plainly NAME where torchvision has none of it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from harness.config import ModelConfig
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm/"


def installed() -> bool:
    """Return whether timm can be imported."""
    return importlib.util.find_spec("timm") is not None


def knows(name: str) -> bool:
    """Return whether timm has a model of that name (without the prefix)."""
    if not installed():
        return False
    import timm

    return bool(timm.is_model(name))


def spec(name: str) -> ModelSpec:
    """Return how timm makes a model; raises UserError where there is no timm, or none of that name in it."""
    bare = name.removeprefix(PREFIX)
    if not installed():
        raise UserError(f"model={name} needs timm, which is not installed: pip install timm")
    if not knows(bare):
        import timm

        near = timm.list_models(f"*{bare}*")[:3]
        hint = f": did you mean {', '.join(PREFIX + one for one in near)}?" if near else ""
        raise UserError(f"model={name}: timm has no model {bare!r}{hint}")
    return ModelSpec(name, lambda cfg: _create(bare, cfg), settle=True)


def _create(name: str, cfg: ModelConfig) -> nn.Module:
    import timm

    try:
        try:
            return timm.create_model(name, num_classes=cfg.num_classes, img_size=cfg.image_size)
        except TypeError:  # convolutional networks take every size and no argument for it
            return timm.create_model(name, num_classes=cfg.num_classes)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"model=timm/{name} can't be built with model.image_size={cfg.image_size}: {error}") from error
