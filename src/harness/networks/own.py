"""A user's own network: `module:function`, or the entry point of another package."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig, packages
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_PASSED = ("num_classes", "image_size")  # what a function is called with, if it has parameters of these names


def from_path(path: str) -> ModelSpec:
    """Return the model that `module:function` makes; raises UserError where there is no such thing."""
    module_name, _, function_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # somebody else's module may raise anything
        hint = " (it is looked for from the current folder)" if isinstance(error, ModuleNotFoundError) else ""
        raise UserError(
            f"model={path}: {module_name} can't be imported: {type(error).__name__}: {error}{hint}"
        ) from error
    made = module
    for part in function_name.split("."):
        if not hasattr(made, part):
            raise UserError(f"model={path}: {module_name} has no {function_name!r}")
        made = getattr(made, part)
    return _spec(path, made)


def from_entry_point(name: str) -> ModelSpec:
    """Return the model that another package registers as `name`: a function, or a ModelSpec of its own."""
    return _spec(name, packages.load(packages.MODELS, name))


def _spec(name: str, made: Any) -> ModelSpec:
    if isinstance(made, ModelSpec):
        return made
    if not callable(made):
        raise UserError(f"model={name} is {type(made).__name__}, not a function that returns a network")
    return ModelSpec(name, lambda cfg: _create(name, made, cfg))


def _create(name: str, made: Any, cfg: ModelConfig) -> nn.Module:
    from torch import nn

    taken = inspect.signature(made).parameters
    arguments = {name: getattr(cfg, name) for name in _PASSED if name in taken}
    try:
        network = made(**arguments)
    except Exception as error:
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UserError(f"model={name}: {name}({shown}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model={name} returned {type(network).__name__}, not a torch.nn.Module")
    return network
