"""A user's own network: `module:function`, or the entry point of another package."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig, packages
from harness.networks.model_spec import ModelSpec
from harness.networks.own_code import alone_on_the_command_line, reported
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_PASSED = ("num_classes", "image_size")  # what a function is called with, if it has parameters of these names


def from_path(path: str) -> ModelSpec:
    """Return the model that `module:function` makes; raises UserError where there is no such thing."""
    module_name, _, function_name = path.partition(":")
    with reported(f"model={path}: {module_name} can't be imported"), alone_on_the_command_line(f"{module_name}.py"):
        module = _imported(module_name)
    made = module
    for part in function_name.split("."):
        if not hasattr(made, part):
            raise UserError(f"model={path}: {module_name} has no {function_name!r}")
        made = getattr(made, part)
    return _spec(path, made)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0]:
            raise ModuleNotFoundError(f"{error} (it is looked for from the current folder)") from error
        raise


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

    try:
        taken = set(inspect.signature(made).parameters)
    except (TypeError, ValueError):  # a function of a C library does not say
        taken = set()
    arguments = {name: getattr(cfg, name) for name in _PASSED if name in taken}
    shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
    with reported(f"model={name}: {name}({shown}) failed"), alone_on_the_command_line(name):
        network = made(**arguments)
    if not isinstance(network, nn.Module):
        raise UserError(f"model={name} returned {type(network).__name__}, not a torch.nn.Module")
    return network
