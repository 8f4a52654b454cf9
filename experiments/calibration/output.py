"""What a calibration leaves behind: results.csv, table.md, figures and environment.json, each written whole."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
from bounds import Bound
from controls import as_table as controls_table
from controls import controls, windows
from stopping import Stopped, as_table

from cases import Row


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and rename it at the end, so that no half-written result is ever seen."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would keep others from reading the result
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write every row, shares in percent."""
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def write_table(rows: list[Row], bounds: list[Bound], stopped: Sequence[Stopped], path: Path) -> None:
    """Write the promises and one line a case, the three true factors side by side, as Markdown."""
    head = ["noise", "sd(L)", "restarts x blocks", "covers", "plain t covers", "half-width of ln(factor)", "false"]
    head += ["recognised", "inconclusive", "plain t false", "usual recipe false"]
    text = [
        "# Calibration of the interaction estimator",
        "",
        "Made by `make calibrate`; do not edit.",
        "",
        "| promise (of stopping: goal) | worst found | met |",
        "|---|---|---|",
        *(f"| {bound.claim} | {bound.found} | {'yes' if bound.met else '**no**'} |" for bound in bounds),
        "",
        f"{rows[0].quartets} simulated quartets a case, shares in percent, true factors 0.7 / 1 / 1.3 side by side.",
        "False: a verdict that the true factor contradicts; recognised: the right one. The usual recipe measures one",
        "cell after the other, once each (`cases.usual_recipe` says how it is mapped), and always decides.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for three in by_case(rows):
        one = three[1]
        line = [title(one), f"{one.sd:g}", f"{one.restarts} x {one.blocks}", f"{one.coverage:.1f}"]
        line += [f"{one.plain_t_coverage:.1f}", f"{one.median_half_width:.3f}", beside(three, "false", 1)]
        line += [beside(three, "recognised"), beside(three, "inconclusive"), beside(three, "plain_t_false", 1)]
        text.append("| " + " | ".join([*line, beside(three, "coursework_false")]) + " |")
    text += [
        "",
        "## Stopping as the protocol does",
        "",
        f"{stopped[0].runs} runs a line: false verdicts / decided at each true factor; runs flagged as unstationary;",
        "converged and not flagged; the least coverage of those; blocks at a true factor of 1.",
        "",
        *as_table(stopped),
        "",
        "An ideal test knows the noise and its sd, and looks for a step at any place: what it leaves, no test removes.",
        "",
        "## On cells that are identical",
        "",
        "Windows of the committed A/A controls on the device boundary, quartets of an engine in the order they were",
        "measured, each a restart: false verdicts (of `estimate`, and of the protocol's stricter rule), and windows",
        "found `independent` by each.",
        "",
        *controls_table([row for control in controls() for row in windows(control)]),
    ]
    with whole(path) as temporary:
        temporary.write_text("\n".join(text) + "\n")


def by_case(rows: list[Row]) -> list[list[Row]]:
    """Return the rows in threes, one three a case: true factors 0.7, 1.0 and 1.3."""
    return [rows[start : start + 3] for start in range(0, len(rows), 3)]


def beside(three: list[Row], column: str, digits: int = 0) -> str:
    """Return a column of the three true factors in one cell."""
    return " / ".join(f"{getattr(row, column):.{digits}f}" for row in three)


def title(row: Row) -> str:
    """Return how a table calls the row's noise."""
    return row.noise + (", host-bound" if row.host_bound else "")


def write_environment(path: Path, seed: int, quartets: int, seconds: float) -> None:
    """Write what would be needed to repeat the run."""
    environment = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "quartets": quartets,
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "cpu": _cpu(),
        "system": platform.platform(),
    }
    with whole(path) as temporary:
        temporary.write_text(json.dumps(environment, indent=2) + "\n")


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
