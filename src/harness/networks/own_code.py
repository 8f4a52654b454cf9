"""A user's code in our process: whatever it raises, or however it ends, is reported with its file and line.

A user's own network is such code: `module:function`, or the entry point of another package.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from harness.config import ModelConfig, packages
from harness.config.sources import is_source
from harness.networks.model_spec import ModelSpec
from harness.system.errors import UserError, first_line
from harness.system.places import HardExit, restored_places

if TYPE_CHECKING:
    from torch import nn

_MOST = 180  # characters of what an error says


@contextmanager
def reported(doing: str) -> Iterator[None]:
    """Turn what the code inside raises into a UserError, "`doing`: reason (file:line)"; a UserError passes as it is.

    It can't move our places.
    """
    try:
        with restored_places():
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise UserError(f"{doing}: {reason(error)}") from error


def of_another_package(group: str, name: str, doing: str) -> AbstractContextManager[None]:
    """Report what a technique, an engine or a scenario of another package raises under its name.

    What ours raises passes as it is: that is our bug.
    """
    if name in packages.ours(group):
        return nullcontext()
    return reported(f"{packages.described(group, name)}: its {doing} fails")


@contextmanager
def alone_on_the_command_line(program: str) -> Iterator[None]:
    """Let code inside see `program` without arguments in `sys.argv`: ours are not meant for its parser."""
    before = sys.argv
    sys.argv = [program]
    try:
        yield
    finally:
        sys.argv = before


def reason(error: BaseException) -> str:
    """Return an error's kind, the first line of what it says, and where in the user's source it came from."""
    said = f"{type(error).__name__}: {first_line(error)[:_MOST]}"
    if isinstance(error, SystemExit):
        call = "os._exit" if isinstance(error, HardExit) else "SystemExit"
        said = f"{call}: it ends the program with {error.code!r}"
    place = origin(error)
    return f"{said} ({place})" if place else said


def origin(error: BaseException) -> str:
    """Return file:line of the innermost frame of the user's source, "" where the error met none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    place, step = "", error.__traceback__
    while step is not None:
        if _is_authors(step):
            place = f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return place


def _is_authors(step: TracebackType) -> bool:
    name = str(step.tb_frame.f_globals.get("__name__", ""))
    return not step.tb_frame.f_code.co_filename.startswith("<") and bool(name) and is_source(name)


_PASSED = ("num_classes", "image_size")  # what a function is called with, if it has parameters of these names


def from_path(path: str) -> ModelSpec:
    """Return the model that `module:function` makes; raises UserError where there is no such thing."""
    return _spec(path, *named_function(path))


def named_function(path: str) -> tuple[Any, ModuleType]:
    """Return what `module:function` names, and the module; raises UserError where there is no such thing."""
    module_name, _, function_name = path.partition(":")
    with reported(f"model={path}: {module_name} can't be imported"), alone_on_the_command_line(f"{module_name}.py"):
        module = _imported(module_name)
    made: Any = module
    for part in function_name.split("."):
        if not hasattr(made, part):
            raise UserError(f"model={path}: {module_name} has no {function_name!r}")
        made = getattr(made, part)
    return made, module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0]:
            raise ModuleNotFoundError(f"{error} (it is looked for from the current folder)") from error
        raise


def from_entry_point(name: str) -> ModelSpec:
    """Return the model that another package registers as `name`: a function, or a ModelSpec of its own."""
    made = packages.load(packages.MODELS, name)
    return _spec(name, made, sys.modules.get(getattr(made, "__module__", "")))


def _spec(name: str, made: Any, module: ModuleType | None) -> ModelSpec:
    """Return the spec of a user's function; `inputs` of the function, or of its module, says what the network takes."""
    if isinstance(made, ModelSpec):
        return made
    if not callable(made):
        raise UserError(f"model={name} is {type(made).__name__}, not a function that returns a network")
    inputs = getattr(made, "inputs", getattr(module, "inputs", None))
    return ModelSpec(name, lambda cfg: _create(name, made, cfg), inputs=inputs)


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
