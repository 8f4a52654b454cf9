"""identity: nothing; the reference once more, built and loaded separately: one half of the A/A control."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.config import HarnessConfig, Switch, packages
from harness.system.errors import UserError
from harness.techniques.levels import HasCapabilities, Levels

name = "identity"


@dataclass
class Options(Switch):
    """What the control is a control of."""

    over: list[str] = field(default_factory=list)  # techniques that are on in all four cells, with reference=engine


def check(options: Options, config: HarnessConfig, engine: HasCapabilities | None) -> None:
    """Refuse names of no technique, and accelerated cells that eager would have to be."""
    if not options.over:
        return
    known = [technique for technique in packages.names(packages.HW) if technique != name]
    unknown = [technique for technique in options.over if technique not in known]
    if unknown:
        raise UserError(f"hw.identity.over=[{','.join(options.over)}]: {unknown[0]} is not one of {', '.join(known)}.")
    if config.reference != "engine":
        raise UserError(
            f"hw.identity.over=[{','.join(options.over)}]: all four cells have it, so they run on the engine; "
            "add reference=engine."
        )


def apply(levels: Levels, options: Options, config: HarnessConfig) -> Levels:
    """Return the same levels as another instance, so that the cache does not hand out the reference's artifact."""
    return replace(levels, instance=levels.instance + "hw-identity")
