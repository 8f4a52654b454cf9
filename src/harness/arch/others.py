"""Techniques of other packages: what their modules must offer, and their options beside ours.

Such a module is imported by `--help` too, to know its options: it should import torch within its functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any

from harness import external
from harness.config import ArchConfig
from harness.errors import UserError

_OFFERS = ("name", "Options", "check", "apply")


@cache
def techniques() -> Mapping[str, Any]:
    """Return the techniques of other packages by name; raise UserError for one that lacks what it must offer."""
    own = [part.name for part in fields(ArchConfig)]
    return {name: _checked(name, external.load(external.ARCH, name)) for name in external.names(external.ARCH, own)}


@cache
def config_type() -> type[ArchConfig]:
    """Return `ArchConfig`, with a field for each technique of another package."""
    if not techniques():
        return ArchConfig
    more = [(name, one.Options, field(default_factory=one.Options)) for name, one in techniques().items()]
    return make_dataclass(_EXTENDED, more, bases=(ArchConfig,), namespace={"__module__": __name__})


def register_choices() -> None:
    """Tell Hydra that `arch=NAME` switches such a technique on; ours have files in conf/arch."""
    from hydra.core.config_store import ConfigStore

    for name in techniques():
        ConfigStore.instance().store(name=name, node={name: {"enabled": True}}, group="arch", package="arch")


_EXTENDED = "ArchConfigWithOthers"


def __getattr__(name: str) -> Any:
    if name == _EXTENDED:  # where pickle looks for the class that `config_type` makes
        return config_type()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _checked(name: str, module: Any) -> Any:
    missing = [part for part in _OFFERS if not hasattr(module, part)]
    if missing:
        raise UserError(f"technique {name}: its module offers no {', '.join(missing)}; it needs {', '.join(_OFFERS)}")
    if module.name != name:
        raise UserError(f"technique {name}: its module calls itself {module.name!r}; both must be one")
    options = module.Options
    if not is_dataclass(options) or getattr(options(), "enabled", None) is not False:  # type: ignore[operator]
        raise UserError(f"technique {name}: its Options must be a dataclass with `enabled: bool = False`")
    return module
