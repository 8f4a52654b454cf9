"""The techniques that are on, in the one order they are applied in."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.config import ArchConfig, HarnessConfig, packages
from harness.networks.own_code import of_another_package
from harness.system.errors import UserError
from harness.techniques.arch.options import OPTIONS

if TYPE_CHECKING:
    from torch import nn

ORDER = tuple(OPTIONS)
ALONE = ("identity",)  # these stack with nothing

# Those after which a later one's check sees the same layers; whatever else is applied before that check.
_LEAVES_LAYERS = frozenset({"identity", "low_rank", "early_exit"})


class ArchTechnique(Protocol):
    """What a technique's file offers."""

    name: str

    def check(self, model: nn.Module, options: Any) -> None:
        """Raise UserError if `options` can't be applied to `model`; cheap."""

    def apply(self, model: nn.Module, options: Any) -> nn.Module:
        """Return a changed copy of `model`, in eval mode, without gradients."""


def order() -> tuple[str, ...]:
    """Return `ORDER` with the techniques of other packages, each right before the one its `before` names."""
    out = list(ORDER)
    for name, module in packages.added_techniques(packages.ARCH).items():
        before = getattr(module, "before", "early_exit")
        if before not in ORDER:
            raise UserError(f"technique {name}: its before={before!r} is not one of {', '.join(ORDER)}")
        out.insert(out.index(before), name)
    return tuple(out)


def technique(name: str) -> ArchTechnique:
    """Return the technique called `name`, one of `order()`; raises KeyError for anything else."""
    return cast(ArchTechnique, packages.load(packages.ARCH, name))


def enabled(cfg: ArchConfig) -> tuple[str, ...]:
    """Return the names of the techniques that are on, in `order()`."""
    return tuple(name for name in order() if getattr(cfg, name).enabled)


def sources(cfg: ArchConfig) -> list[str]:
    """Return the names of the Python modules of the techniques that are on."""
    parts = (technique(name) for name in enabled(cfg))
    return [getattr(part, "__name__", type(part).__module__) for part in parts]


def check_config(config: HarnessConfig) -> None:
    """Raise UserError where a technique is on that the other options exclude, or one is stacked that must be alone."""
    stack = enabled(config.arch)
    for name in stack:
        check = getattr(technique(name), "check_config", None)  # a technique may leave it out
        if check is not None:
            with of_another_package(packages.ARCH, name, "check_config"):
                check(getattr(config.arch, name), config)
    for name in ALONE:
        if name in stack and len(stack) > 1:
            raise UserError(f"arch=[{','.join(stack)}]: {name} can't be combined with other techniques; use it alone.")


def needs_training(name: str) -> bool:
    """Return whether what a technique leaves of trained weights answers nothing until it is trained again.

    One that draws weights does, and one that cuts them apart; its module says `keeps_answers = True` if it does not.
    """
    return not getattr(technique(name), "keeps_answers", False)


def option_by_answers(cfg: ArchConfig) -> str:
    """Return an option that is set and depends on the network's answers, `arch.NAME.FIELD`; "" where there is none."""
    for name in enabled(cfg):
        for option in getattr(technique(name), "BY_ANSWERS", ()):
            if getattr(getattr(cfg, name), option) is not None:
                return f"arch.{name}.{option}"
    return ""


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
    Milliseconds, but for pruning: off a DenseNet, and in a stack that goes on, it has to be done to be known (seconds).
    """
    on = enabled(cfg)
    for index, name in enumerate(on):
        _check(name, model, cfg)
        if name not in _LEAVES_LAYERS and index + 1 < len(on):
            model = _applied(name, model, cfg)


def apply_stack(model: nn.Module, cfg: ArchConfig, checked: bool = False) -> nn.Module:
    """Return `model` changed by every technique that is on, in `order()`; `model` itself is left as it is.

    The same model and config give bit-identical weights in every process. Without a technique, `model` is returned.
    Raises UserError as `check_stack` does, unless the stack was `checked` on this model already.
    """
    for name in enabled(cfg):
        if not checked:
            _check(name, model, cfg)
        model = _applied(name, model, cfg)
    return model


def _check(name: str, model: nn.Module, cfg: ArchConfig) -> None:
    with of_another_package(packages.ARCH, name, "check"):
        technique(name).check(model, getattr(cfg, name))


def _applied(name: str, model: nn.Module, cfg: ArchConfig) -> nn.Module:
    """Return `model` changed by one technique; the copy keeps what it takes, for techniques of any package."""
    from torch import nn

    from harness.networks.inputs import carry_inputs, inputs_of

    with of_another_package(packages.ARCH, name, "apply"):
        changed = technique(name).apply(model, getattr(cfg, name))
    if not isinstance(changed, nn.Module):
        found = type(changed).__name__
        raise UserError(f"{packages.described(packages.ARCH, name)}: its apply returns {found}, not a torch.nn.Module")
    carry_inputs(changed, inputs_of(model))
    return changed
