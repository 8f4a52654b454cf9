"""Which models there are: a name is looked up once, then it is a `ModelSpec`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import external
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
    min_image_size: int = 1  # pixels; below this a feature map vanishes
    torchvision_weights: str | None = None  # name of the enum in torchvision.models
    rename_key: Callable[[str], str] = _unchanged  # parameter name in old checkpoints -> name now
    settle: bool = False  # random weights are made fit to be verified: see settle.py


_specs: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add a model; raises ValueError if the name is taken (a bug in our code, not a user's mistake)."""
    if spec.name in _specs:
        raise ValueError(f"model {spec.name!r} is registered twice")
    _specs[spec.name] = spec


def spec(name: str) -> ModelSpec:
    """Return the model called `name`: ours, another package's, a `module:function`, torchvision's or timm's.

    Raises UserError that lists the known names, and the nearest ones of torchvision's.
    """
    _load_known()
    if name in _specs:
        return _specs[name]
    from harness.models import own, timm_models, torchvision_models

    if name in external.names(external.MODELS, _specs):
        return own.from_entry_point(name)
    if ":" in name:
        return own.from_path(name)
    if name.startswith(timm_models.PREFIX):
        return timm_models.spec(name)
    if name in torchvision_models.names():
        return torchvision_models.spec(name)
    if timm_models.knows(name):
        return timm_models.spec(name)
    near = torchvision_models.nearest(name)
    raise UserError(
        f"model {name!r} is not known; the known models are {', '.join(names())}, "
        f"every classifier of torchvision's{f' (did you mean {near}?)' if near else ''}"
        f"{', of timm' if timm_models.installed() else ' (timm is not installed)'}, and your own as module:function"
    )


def names() -> tuple[str, ...]:
    """Return the names that need no look into torchvision or timm, sorted: ours and other packages'."""
    _load_known()
    return tuple(sorted([*_specs, *external.names(external.MODELS, _specs)]))


def _load_known() -> None:
    # Each family registers itself on import. Here, not at the top: a family imports `register` from this file.
    import harness.models.densenet  # noqa: F401
