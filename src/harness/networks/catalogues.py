"""Other people's models by name: every classification model of torchvision's, and timm's where that is installed.

`timm/NAME`, or plainly NAME where torchvision has none of it.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError
from harness.system.words import nearest

if TYPE_CHECKING:
    from torch import nn

# The few that are built for one size of image and take it as an argument of another name.
_SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
_REGISTERED = re.compile(r"^@register_model\b.*\n(?:[@ )].*\n)*def (\w+)\(", re.MULTILINE)


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return torchvision's classifiers, without the quantised ones."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


@cache
def _sources(library: str) -> tuple[str, ...]:
    """Return the sources of a library's models, read and not imported, for that takes seconds; () where there are none.

    timm keeps a few in folders below; of torchvision those are for other tasks.
    """
    found = importlib.util.find_spec(library)
    folder = Path(found.origin).parent / "models" if found is not None and found.origin else None
    return tuple(path.read_text(errors="replace") for path in sorted(folder.glob("*.py"))) if folder else ()


@cache
def listed(library: str) -> tuple[str, ...]:
    """Return the names of the models that a library's sources register, to suggest one for a misspelt name."""
    return tuple(name for text in _sources(library) for name in _REGISTERED.findall(text))


def may_know(library: str, name: str) -> bool:
    """Return whether a library can have a model of that name; False only if no source of its models says the name."""
    said = re.compile(rf"\bdef {re.escape(name)}\b|[\"']{re.escape(name)}[\"']")
    return not _sources(library) or any(said.search(text) for text in _sources(library))


def torchvision_knows(name: str) -> bool:
    """Return whether torchvision has a classifier of that name."""
    return may_know("torchvision", name) and name in torchvision_names()


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
    if not has_timm() or not may_know("timm", name.partition(".")[0]):
        return False
    import timm

    return bool(timm.is_model(name))


def timm_spec(name: str) -> ModelSpec:
    """Return how timm makes a model; raises UserError if timm is not installed or has no such model."""
    bare = name.removeprefix(TIMM)
    if not has_timm():
        raise UserError(f"model={name} needs timm, which is not installed: pip install timm")
    if not timm_knows(bare):
        near = nearest(bare, listed("timm"))
        hint = f": did you mean {TIMM}{near}?" if near else ""
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
