"""The group `arch`: each technique declares its options, and the config holds them as `arch.NAME.FIELD`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.config import packages

OURS = "harness.techniques.arch.options"  # named as an entry point names a module, and imported when it is needed


@dataclass
class ArchConfig:
    """All architecture techniques, always present; a group choice switches one on. `arch_off()` makes one."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def other_techniques() -> Mapping[str, Any]:
    """Return the techniques of other packages by name: modules with `name`, `Options`, `check` and `apply`."""
    return packages.added_techniques(packages.ARCH)


@cache
def arch_config_type() -> type[ArchConfig]:
    """Return `ArchConfig` with a field for each technique, those of other packages last."""
    others = {name: module.Options for name, module in other_techniques().items()}
    options = {**import_module(OURS).OPTIONS, **others}
    declared = [(name, kind, field(default_factory=kind)) for name, kind in options.items()]
    return make_dataclass(_EXTENDED, declared, bases=(ArchConfig,), namespace={"__module__": __name__})


def arch_off() -> ArchConfig:
    """Return the options with every technique off."""
    return arch_config_type()()


_EXTENDED = "ArchConfigWithTechniques"


def __getattr__(name: str) -> Any:
    if name == _EXTENDED:  # where pickle looks for the class that `arch_config_type` makes
        return arch_config_type()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
