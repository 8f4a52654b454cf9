"""The table at the end of a sweep, read back from MLflow, so that screen and store can't differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas

COLOURS = {"amplify": "green", "conflict": "red", "independent": "cyan", "inconclusive": "yellow"}


def print_table(console: Console, frame: pandas.DataFrame, uri: str) -> None:
    """Print gains, factors, intervals and verdicts of a sweep, failures and degraded cells with their reasons."""
    measured = frame[frame["status"] == "FINISHED"]
    if len(measured) and _has(measured, "throughput/wall", "baseline/throughput/wall", "baseline/throughput/device"):
        _print_measured(console, measured)
    elif len(measured):
        _print_built(console, measured)
    for _, row in frame[frame["status"] != "FINISHED"].iterrows():
        console.print(Text(f"{row['status']}: {row['run_name']}: {row.get('error') or 'no reason'}", style="red"))
    console.print(f"Stored in {uri}. Browse: make ui (or python -m harness.ui).", highlight=False, soft_wrap=True)


def _print_measured(console: Console, frame: pandas.DataFrame) -> None:
    first = frame.iloc[0]
    boundary = first["boundary"]
    console.print(
        f"\n{first['model']}, reference={first['reference']}, engine={first['engine']} {first['engine_version']}, "
        f"boundary={boundary}; gains over the baseline, factor = combined / (arch x hw)",
        highlight=False,
    )
    coursework = _has(frame, "coursework/factor")
    table = Table(box=None, header_style="bold", pad_edge=False)
    headers = ("arch", "hw", "batch", "images/s", "arch x", "hw x", "expected x", "both x", "factor", "95% interval", "verdict")
    for header in headers:
        right = header not in ("arch", "hw", "verdict")
        table.add_column(header, justify="right" if right else "left", no_wrap=True)
    if coursework:
        table.add_column("usual recipe", no_wrap=True)
    notes: list[str] = []
    for _, row in frame.iterrows():
        verdict = _text(row, "verdict") or "-"
        mark = ""
        if _text(row, "degraded"):
            notes.append(f"degraded: {row['run_name']}: {row['degraded']}")
            mark += f" *{len(notes)}"
        if _text(row, "converged") == "false":
            notes.append(f"not converged within the budget: {row['run_name']}: measure longer (protocol.budget_s=...)")
            mark += f" *{len(notes)}"
        cells = [
            Text(row["arch"]), Text(row["hw"]), Text(row["batch_size"]),
            _throughput(row, boundary),
            *(_number(row, f"gain/{name}", 2) for name in ("arch", "hw", "expected", "combined")),
            _number(row, "interaction/factor", 3), _interval(row),
            Text(verdict + mark, style=COLOURS.get(verdict, "")),
        ]  # fmt: skip
        if coursework:
            cells.append(Text(f"{_number(row, 'coursework/factor', 3)} {_text(row, 'coursework_verdict')}"))
        table.add_row(*cells)
    console.print(table)
    for number, note in enumerate(notes, start=1):
        console.print(Text(f" *{number} {note}", style="yellow"), soft_wrap=True)
    for _, row in frame.iterrows():
        if _text(row, "strategy"):
            console.print(Text(f"{row['arch']} x {row['hw']}, batch {row['batch_size']}: {row['strategy']}"), soft_wrap=True)


def _print_built(console: Console, frame: pandas.DataFrame) -> None:
    """Print what was built, for a sweep that only builds."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("arch", "hw", "engine", "version", "MB", "build s", "from cache"):
        table.add_column(header, no_wrap=True)
    for _, row in frame.iterrows():
        prefix = next((p for p in ("", "hw/", "arch/", "baseline/") if not _missing(row, f"{p}build/engine_mb")), "")
        table.add_row(
            row["arch"], row["hw"], row["engine"], str(row["engine_version"]),
            str(_number(row, f"{prefix}build/engine_mb", 1)), str(_number(row, f"{prefix}build/engine_s", 1)),
            "yes" if row.get("build/cache_hit") == 1 else "no",
        )  # fmt: skip
    console.print(table)


def _throughput(row: Any, boundary: str) -> Text:
    """Return the throughput of the richest cell that was measured."""
    for prefix in ("", "hw/", "arch/", "baseline/"):
        if not _missing(row, f"{prefix}throughput/{boundary}"):
            return _number(row, f"{prefix}throughput/{boundary}", 1)
    return Text("-")


def _interval(row: Any) -> Text:
    if _missing(row, "interaction/low"):
        return Text("-")
    return Text(f"[{row['interaction/low']:.3f}, {row['interaction/high']:.3f}]")


def _number(row: Any, name: str, digits: int) -> Text:
    return Text("-" if _missing(row, name) else f"{row[name]:.{digits}f}")


def _missing(row: Any, name: str) -> bool:
    value = row.get(name)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(row: Any, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _has(frame: pandas.DataFrame, *names: str) -> bool:
    return any(name in frame and frame[name].notna().any() for name in names)
