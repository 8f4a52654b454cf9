"""Techniques of other packages: what their modules must offer.

Such a module is imported by `--help` too, to know its options: it should import torch within its functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from harness.config import packages
from harness.system.errors import UserError

_OFFERS = ("name", "Options", "check", "apply")


@cache
def techniques(ours: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the techniques of other packages by name; raise UserError for one that lacks what it must offer.

    `ours` are the names that are taken.
    """
    return {name: _checked(name, packages.load(packages.ARCH, name)) for name in packages.added(packages.ARCH, ours)}


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
