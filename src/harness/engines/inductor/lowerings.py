"""Optional lowerings: rewrites of a network before Inductor compiles it, each registered here by its name.

`Levels.lowerings` requests them. A lowering's module is imported when it is applied, so this table costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from harness.engines.base import BuildPlan
from harness.system.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Lowering:
    """A rewrite of a network, whose `module` offers `apply(network)` and `proof(network)`."""

    option: str  # that asks for it, as the user writes it
    module: str

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError for a plan that runs on no GPU: these are GPU kernels."""
        if plan.device != "cuda":
            raise UserError(f"{self.option}: the kernels run on a GPU; leave it out on a CPU.")

    def apply(self, network: nn.Module) -> None:
        """Rewrite `network` in place."""
        import_module(self.module).apply(network)

    def proof(self, network: nn.Module) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Return what was rewritten, by the name of the proof, and a line for each reason why something was not."""
        found: tuple[Mapping[str, int], tuple[str, ...]] = import_module(self.module).proof(network)
        return found


LOWERINGS: Mapping[str, Lowering] = {
    "dense_blocks": Lowering("hw.fusion.dense_blocks=true", "harness.engines.inductor.dense_blocks"),
}


def lowerings_of(plan: BuildPlan) -> tuple[str, ...]:
    """Return the names of the lowerings that a plan asks for, in their order."""
    requested = str(dict(plan.options).get("lowerings", ""))
    return tuple(requested.split(",")) if requested else ()
