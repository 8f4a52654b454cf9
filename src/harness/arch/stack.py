"""The techniques that are on, in the one order they are applied in."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.config import ArchConfig

if TYPE_CHECKING:
    from torch import nn

# New widths before new structure. `reduced_growth` draws a new network, so it comes first; pruning needs the dense
# convolutions that `grouped` replaces; `low_rank` factorises what is left dense; `early_exit` splits the result.
ORDER = ("identity", "reduced_growth", "pruned", "grouped", "low_rank", "early_exit")

# Those that change what the check of a later one looks at.
_RESHAPING = frozenset({"reduced_growth", "pruned", "grouped"})


class Technique(Protocol):
    """What a technique's file offers."""

    name: str

    def check(self, model: nn.Module, options: Any) -> None:
        """Raise UserError if `options` can't be applied to `model`; cheap."""

    def apply(self, model: nn.Module, options: Any) -> nn.Module:
        """Return a changed copy of `model`, in eval mode, without gradients."""


def technique(name: str) -> Technique:
    """Return the technique called `name`, one of `ORDER`; raises KeyError for anything else."""
    if name not in ORDER:
        raise KeyError(name)
    return cast(Technique, importlib.import_module(f"harness.arch.{name}"))


def enabled(cfg: ArchConfig) -> tuple[str, ...]:
    """Return the names of the techniques that are on, in `ORDER`."""
    return tuple(name for name in ORDER if getattr(cfg, name).enabled)


def flat_options(cfg: ArchConfig) -> dict[str, str | int | float | bool | None]:
    """Return the options of the techniques that are on, as `{"arch.grouped.groups": 4}`."""
    return {
        f"arch.{name}.{key}": value
        for name in enabled(cfg)
        for key, value in asdict(getattr(cfg, name)).items()
        if key != "enabled"
    }


def check_stack(model: nn.Module, cfg: ArchConfig) -> None:
    """Raise UserError if the stack can't be applied to `model`.

    Each technique is checked on what the ones before it leave, so widths that a later one can't divide are found.
    Milliseconds, but for a stack that prunes and then goes on: that one has to be pruned to be checked (seconds).
    """
    on = enabled(cfg)
    for index, name in enumerate(on):
        part = technique(name)
        part.check(model, getattr(cfg, name))
        if name in _RESHAPING and index + 1 < len(on):
            model = part.apply(model, getattr(cfg, name))


def apply_stack(model: nn.Module, cfg: ArchConfig) -> nn.Module:
    """Return `model` changed by every technique that is on, in `ORDER`; `model` itself is left as it is.

    The same model and config give bit-identical weights in every process. Without a technique, `model` is returned.
    Raises UserError as `check_stack` does.
    """
    for name in enabled(cfg):
        part = technique(name)
        part.check(model, getattr(cfg, name))
        model = part.apply(model, getattr(cfg, name))
    return model
