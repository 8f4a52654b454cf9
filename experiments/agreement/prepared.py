"""One cell made by harness's own code, as a sweep would make it: composed, checked, planned, exported and built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.measure.cell import Cell, QuartetPlan
from harness.measure.lock import building
from harness.measure.progress import Silent
from harness.sweep.build import build_quartet
from harness.sweep.command_line import compose_jobs
from harness.sweep.refusals import plan_sweep
from harness.system.cache import Cache
from harness.system.errors import UserError


def prepared(engine: str, batch_size: int, overrides: Sequence[str]) -> tuple[QuartetPlan, Cell]:
    """Return the plan and its one cell, ready to be loaded; raise UserError or CellError with the reason."""
    fixed = ["arch=none", "hw=none", "reference=engine", f"engine={engine}", f"batch_size={batch_size}"]
    jobs = compose_jobs([*fixed, *overrides])
    plans = [job.plan for job in plan_sweep(jobs).jobs]
    if len(plans) != 1 or len(plans[0].cells) != 1:
        raise UserError(f"{' '.join(overrides)}: this study looks at one cell, without techniques and without a sweep.")
    with building():
        cells = build_quartet(plans[0], Cache(Path(plans[0].config.cache.dir)), Silent())
    return plans[0], next(iter(cells.values()))
