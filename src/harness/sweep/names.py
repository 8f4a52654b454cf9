"""A sweep's name: made from its grid, or a user's, which may lead to no other folder and write on no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from harness.measure.design import QuartetPlan
from harness.system.errors import UserError

MOST_CHARACTERS = 200


def check_sweep_name(name: str | None) -> None:
    """Raise UserError for a sweep's name that a report or an export could not use as a file's name as it is."""
    if name is None:
        return
    bad = "".join(sorted({c for c in name if c in "/\\" or not c.isprintable()}))
    if bad or name.strip(". ") == "" or len(name) > MOST_CHARACTERS:
        found = f"it has {bad!a}" if bad else f"it has {len(name)} characters"
        raise UserError(
            f"sweep_name={name[:80]!a} is no plain name ({found}): use 1 to {MOST_CHARACTERS} printable characters "
            "without / and \\, not dots alone."
        )


def sweep_label(plans: Sequence[QuartetPlan]) -> str:
    """Return a name made from the grid: model, arch and hw choices."""
    arch = ",".join(dict.fromkeys("+".join(plan.arch) or "none" for plan in plans))
    hw = ",".join(dict.fromkeys("+".join(plan.hw) or "none" for plan in plans))
    return f"{arch} x {hw} on {plans[0].config.model.name}"
