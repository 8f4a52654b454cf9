"""Calibrate the interaction estimator on simulated quartets; status 1 if one of its promises is not kept.

python experiments/calibration/run.py [--quartets 1000] [--seed 1] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from bounds import DESIGN_SD, Bound, check
from figure import draw
from output import beside, by_case, title, write_csv, write_environment, write_table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from simulate import AR6, AR9, DRIFT, MASKED, TWO_MODE, WHITE
from stopping import as_dicts, goals, stopping

from cases import Case, Row, run_case

LENGTHS = (10, 15, 25, 40, 60, 200)
OTHER_SDS = (0.05, 0.27)  # quiet CPU cells; host-launched eager cells on a GPU


def all_cases() -> list[Case]:
    """Return every case of the study, the ones with promises first."""
    cases = [Case(noise, blocks) for noise in (WHITE, AR6, AR9, DRIFT, MASKED) for blocks in LENGTHS]
    for host_bound in (True, False):  # False: what would happen if nobody knew that the cell is host-bound
        for restarts in (1, 5, 8, 20):
            cases += [Case(TWO_MODE, blocks, restarts=restarts, host_bound=host_bound) for blocks in (10, 25)]
    cases += [
        Case(noise, blocks, sd) for sd in OTHER_SDS for noise in (WHITE, AR6, AR9) for blocks in (10, 25, 60, 200)
    ]
    return cases


def quick_cases() -> list[Case]:
    """Return the cases that any promise depends on, without the longest."""
    return [Case(noise, blocks) for noise in (WHITE, AR6, AR9, DRIFT) for blocks in (10, 25, 60)] + [
        Case(TWO_MODE, 10, restarts=restarts, host_bound=True) for restarts in (1, 8)
    ]


def main() -> int:
    """Run, print, write, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quartets", type=int, default=1000, help="simulated quartets a case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter cases; writes only with --out")
    parser.add_argument("--out", type=Path, help="folder of the results (default: this study's)")
    options = parser.parse_args()
    if options.quartets < 1:
        parser.error(f"--quartets must be at least 1, got {options.quartets}")
    folder = options.out or (None if options.quick else Path(__file__).resolve().parent)

    console = Console()
    started = time.monotonic()
    cases = quick_cases() if options.quick else all_cases()
    # a stream of its own per case: a case gives the same numbers whichever others run
    rows = [
        row
        for case in track(cases, "simulated quartets", console=console, transient=True)
        for row in run_case(case, options.quartets, np.random.default_rng(_stream(case, options.seed)))
    ]
    stopped = stopping(options.quartets, lambda *key: _generator(options.seed, *key))
    promises, open_goals = check(rows), goals(stopped)
    bounds = promises + open_goals
    _show(console, rows, bounds)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv([row.as_dict() for row in rows], folder / "results.csv")
        write_csv(as_dicts(stopped), folder / "stopping.csv")
        write_table(rows, bounds, stopped, folder / "table.md")
        draw(rows, folder)
        write_environment(folder / "environment.json", options.seed, options.quartets, time.monotonic() - started)
        console.print(f"written to {folder}")
    missed = [bound for bound in promises if not bound.met]  # a goal that is missed is no broken promise
    for bound in missed:
        console.print(f"[bold red]missed:[/] {bound.claim}: {bound.found}")
    return 1 if missed else 0


def _stream(case: Case, seed: int) -> list[int]:
    name = int.from_bytes(case.noise.name.encode(), "big") % 2**32
    return [seed, name, case.blocks, round(1000 * case.sd), case.restarts, case.host_bound]


def _generator(seed: int, name: str, sd: float) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(name.encode(), "big") % 2**32, round(1000 * sd)])


def _show(console: Console, rows: list[Row], bounds: list[Bound]) -> None:
    table = Table(
        title=f"{rows[0].quartets} simulated quartets a case, %; true factors 0.7/1/1.3; sd(L) {DESIGN_SD}",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="false: contradicted by the true factor; right: recognised; the rest is inconclusive\n"
        "flagged: known to be host-bound; plain t, recipe: false verdicts of these at true factor 1",
    )
    table.add_column("noise", no_wrap=True)  # eighty columns must do
    for name in ("blocks", "covers", "false", "right", "plain t", "recipe"):
        table.add_column(name, justify="right", no_wrap=True)
    for three in by_case(rows):
        one = three[1]
        table.add_row(
            _short_title(one),
            f"{one.restarts}x{one.blocks}" if one.restarts > 1 else str(one.blocks),
            f"{one.coverage:.1f}",
            beside(three, "false", 1).replace(" ", ""),
            beside(three, "recognised").replace(" ", ""),
            f"{one.plain_t_false:.1f}",
            f"{one.coursework_false:.0f}",
        )
    console.print(table)
    for bound in bounds:
        mark = "[green]met[/]   " if bound.met else "[bold red]MISSED[/]"
        console.print(f"{mark} {bound.claim}: {bound.found}", highlight=False, soft_wrap=True)


def _short_title(row: Row) -> str:
    return title(row).replace("host-bound", "flagged") if row.sd == DESIGN_SD else f"{row.noise}, sd {row.sd:g}"


if __name__ == "__main__":
    sys.exit(main())
