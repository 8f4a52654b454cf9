"""Which models there are: a name is looked up once, then it is a `ModelSpec`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config import ModelConfig
from harness.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def _unchanged(key: str) -> str:
    return key


@dataclass(frozen=True)
class ModelSpec:
    """How one model is made. `create` draws its weights from torch's global generator, already seeded."""

    name: str
    create: Callable[[ModelConfig], nn.Module]
    min_image_size: int  # pixels; below this a feature map vanishes
    torchvision_weights: str | None = None  # name of the enum in torchvision.models
    rename_key: Callable[[str], str] = _unchanged  # parameter name in old checkpoints -> name now


_specs: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add a model; raises ValueError if the name is taken (a bug in our code, not a user's mistake)."""
    if spec.name in _specs:
        raise ValueError(f"model {spec.name!r} is registered twice")
    _specs[spec.name] = spec


def spec(name: str) -> ModelSpec:
    """Return the model called `name`; raises UserError that lists the known names."""
    _load_known()
    try:
        return _specs[name]
    except KeyError:
        raise UserError(f"model {name!r} is not known; the known models are {', '.join(names())}") from None


def names() -> tuple[str, ...]:
    """Return the known names, sorted."""
    _load_known()
    return tuple(sorted(_specs))


def _load_known() -> None:
    # Each family registers itself on import. Here, not at the top: a family imports `register` from this file.
    import harness.models.densenet  # noqa: F401
