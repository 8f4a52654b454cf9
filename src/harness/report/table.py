"""The table at the end of a sweep, read back from MLflow, so that screen and store can't differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.measure.settings import HALF_WIDTH
from harness.report.quartets import ends_of
from harness.results.accuracy import interaction_in_words
from harness.results.estimand import name_in_words
from harness.results.headline import FourBars, headline_of_study
from harness.results.units import unit_of_throughput
from harness.stats.interaction import MINIMUM_BLOCKS
from harness.stats.multiplicity import CORRECTIONS
from harness.stats.roles import ROLES, prefix_of
from harness.system.counts import counted, limits
from harness.system.errors import plain
from harness.system.tables import new_table, print_fitting
from harness.tracking.store import shown

if TYPE_CHECKING:
    import pandas

TABLE = ("model", "reference", "engine", "boundary")  # rows with the same values share a table
RICHEST_FIRST = tuple(prefix_of(role) for role in reversed(ROLES))
GAINS = (("arch", "hw", "expected", "combined"), ("arch", "hw", "combined"), ())  # where the terminal is narrower
COLOURS = {"amplify": "green", "conflict": "red", "independent": "cyan", "inconclusive": "yellow"}


def print_table(console: Console, frame: pandas.DataFrame, uri: str | None) -> None:
    """Print gains, factors, intervals and verdicts of a sweep, failures and degraded cells with their reasons.

    `uri` is the store that it was read from; None for a committed study.
    """
    frame = plain_table(frame)
    measured = frame[frame["status"] == "FINISHED"]
    if len(measured) and _has(measured, *(name for name in frame if "throughput/" in str(name))):
        labels = _labels(measured)
        for _, rows in measured.groupby(list(TABLE), sort=False):
            _print_measured(console, rows, labels)
    elif len(measured):
        _print_built(console, measured)
    for _, row in frame[frame["status"] != "FINISHED"].iterrows():
        console.print(
            Text(f"{row['status']}: {row['run_name']}: {row.get('error') or 'no reason'}", style="red"), soft_wrap=True
        )
    headline = headline_of_study(measured.to_dict("records"))
    if headline is not None:
        console.print(Text(f"\n{headline.sentence}", style="bold"))
        console.print(FourBars(headline))
    if uri is not None:
        console.print(
            f"\nStored in {shown(uri)}. Browse: make ui (or python -m harness.ui).", highlight=False, soft_wrap=True
        )


def plain_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table whose texts write nothing but themselves on a terminal."""
    texts = frame.select_dtypes(["object", "string"]).columns
    return frame.assign(
        **{name: frame[name].map(lambda value: plain(value) if isinstance(value, str) else value) for name in texts}
    )


def _labels(frame: pandas.DataFrame) -> dict[str, str]:
    """Return what to call each run: its name in words, and every option in which the runs of the sweep differ."""
    options = [name for name in frame if str(name).startswith(("arch.", "hw.", "protocol.", "image_size", "weights"))]
    varied = [name for name in options if frame[name].nunique(dropna=False) > 1]
    labels = {}
    for _, row in frame.iterrows():
        values = [f"{str(name).rpartition('.')[2]}={row[name]}" for name in varied if isinstance(row[name], str)]
        same_name = frame[(frame[["run_name", *TABLE]] == row[["run_name", *TABLE]]).all(axis=1)]
        name = row["run_name"]
        if {"arch", "hw"} <= set(frame):
            name = name_in_words(name, row["arch"], row["hw"], row["engine"], row["reference"])
        is_ambiguous = len(same_name) > 1 and values
        labels[row["run_id"]] = " ".join([name, *values]) if is_ambiguous else name
    return labels


def _print_measured(console: Console, frame: pandas.DataFrame, labels: dict[str, str]) -> None:
    first = frame.iloc[0]
    console.print(
        f"\n{first['model']}, reference={first['reference']}, engine={first['engine']} {first['engine_version']}, "
        f"boundary={first['boundary']}.\nGains over the baseline; factor = combined / (arch x hw).",
        highlight=False,
    )
    for title in dict.fromkeys(title for _, row in frame.iterrows() for title, _ in _adjusted(row)):
        console.print(f"A verdict that does not hold after {title} correction over the sweep is marked.")
    notes = _Notes()
    print_fitting(console, [_measured_table(frame, labels, gains, notes) for gains in GAINS])
    for note in notes.lines:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    for _, row in frame.iterrows():
        verdict = next(_adjusted(row), ("", _text(row, "verdict")))[1]
        if _text(row, "strategy") and verdict != "inconclusive":
            console.print(Text(f"{labels[row['run_id']]}: {row['strategy']}"), soft_wrap=True)


def _measured_table(frame: pandas.DataFrame, labels: dict[str, str], gains: Sequence[str], notes: _Notes) -> Table:
    first = frame.iloc[0]
    coursework = _has(frame, "coursework/factor")
    table = new_table()
    table.add_column("arch x hw, batch", overflow="fold", min_width=16)
    labelled = _has(frame, *(f"{prefix}accuracy/top1" for prefix in RICHEST_FIRST))
    headers = (
        unit_of_throughput(first),
        *(["top-1"] if labelled else []),
        *gains,
        "factor [95% interval]",
    )
    for header in (name.replace("combined", "both") for name in headers):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if coursework:
        table.add_column("usual recipe", overflow="fold")
    for _, row in frame.iterrows():
        verdict = _text(row, "verdict") or "-"
        marks = notes.marks(row)
        cells = [
            Text(labels[row["run_id"]]),
            _throughput(row, first["boundary"]),
            *([_top1(row)] if labelled else []),
            *(_number(row, f"gain/{name}", 2, "x") for name in gains),
            _factor(row),
            Text(verdict + marks, style=COLOURS.get(verdict, "")),
        ]
        if coursework:
            cells.append(Text(f"{_number(row, 'coursework/factor', 3)} {_text(row, 'coursework_verdict')}"))
        table.add_row(*cells)
    return table


class _Notes:
    """Footnotes: each text has a number, which all rows that it holds for show."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}

    def marks(self, row: Any) -> str:
        """Return the footnote marks of a row, as " *1 *2"."""
        texts = []
        if _text(row, "degraded"):
            texts.append(f"degraded: {row['degraded']}")
        if _text(row, "untrained"):
            texts.append(f"no accuracy: {row['untrained']}")
        if accuracy := interaction_in_words(row):
            texts.append(accuracy)
        if _text(row, "note"):
            texts.append(row["note"])
        if _text(row, "loadgen") not in ("", "VALID"):
            texts.append(f"LoadGen: {row['loadgen']}")
        if _text(row, "converged") == "false":
            texts.append(
                f"not converged within its budget: {_how_much_longer(row)}protocol.budget_s=... measures longer"
            )
        if _text(row, "unstationary"):
            texts.append(row["unstationary"])
        for title, verdict in _adjusted(row):
            if verdict != _text(row, "verdict"):
                texts.append(f"significant alone, not after {title} correction over the sweep: measure more")
        return "".join(f" *{self._texts.setdefault(text, len(self._texts) + 1)}" for text in texts)

    @property
    def lines(self) -> list[str]:
        return [f" *{number} {text}" for text, number in self._texts.items()]


def _how_much_longer(row: Any) -> str:
    """Return how many minutes more would make the interval narrow, "" where that can't be estimated.

    An interval narrows with the square root of the blocks; noise with a memory needs more than that.
    """
    names = ("measure/half_width", "measure/seconds", "measure/bring_up_s", "measure/blocks")
    if any(_missing(row, name) for name in names) or row["measure/blocks"] < MINIMUM_BLOCKS:
        return ""
    if not _missing(row, "measure/builds") and row["measure/builds"] > 1:  # blocks narrow a part of its interval only
        return ""
    given = _text(row, "protocol.half_width")
    target = float(given) if given not in ("", "None") else HALF_WIDTH.get(_text(row, "boundary"), HALF_WIDTH["wall"])
    spent_s = row["measure/seconds"] - row["measure/bring_up_s"]
    minutes = spent_s * ((row["measure/half_width"] / target) ** 2 - 1) / 60
    if not math.isfinite(minutes) or minutes <= 0:
        return ""
    words = "more than an hour" if minutes > 60 else f"about {counted(max(1, round(minutes)), 'more minute')}"
    return f"{words} for +-{target:.0%}; "


def _adjusted(row: Any) -> Iterator[tuple[str, str]]:
    """Give a row's correction over its sweep, in words, and its verdict after it."""
    for correction in CORRECTIONS.values():
        if _text(row, correction.tag):
            yield correction.title, _text(row, correction.tag)


def _print_built(console: Console, frame: pandas.DataFrame) -> None:
    """Print what was built, for a sweep that only builds."""
    table = new_table()
    for header in ("arch", "hw", "engine", "version", "MB", "build s", "from cache"):
        table.add_column(header, no_wrap=True)
    for _, row in frame.iterrows():
        prefix = next((p for p in ("", "hw/", "arch/", "baseline/") if not _missing(row, f"{p}build/engine_mb")), "")
        table.add_row(
            row["arch"], row["hw"], row["engine"], str(row["engine_version"]),
            str(_number(row, f"{prefix}build/engine_mb", 1)), str(_number(row, f"{prefix}build/engine_s", 1)),
            "yes" if row.get("build/cache_hit") == 1 else "no",
        )  # fmt: skip
    print_fitting(console, [table])


def _top1(row: Any) -> Text:
    """Return the top-1 accuracy of the richest cell that was measured, and how many points that is off the baseline."""
    names = ("accuracy/images", "accuracy/top1")  # either says that it was tested on labelled images
    prefix = next(
        (candidate for candidate in RICHEST_FIRST if not all(_missing(row, f"{candidate}{name}") for name in names)), ""
    )
    if _missing(row, f"{prefix}accuracy/top1"):  # its weights are untrained; a poorer cell's accuracy is not its own
        return Text("-")
    lost = f"{prefix}accuracy/drop"
    return Text(f"{row[f'{prefix}accuracy/top1']:.2%}" + ("" if _missing(row, lost) else f" ({-100 * row[lost]:+.2f})"))


def _throughput(row: Any, boundary: str) -> Text:
    """Return the throughput of the richest cell that was measured."""
    for prefix in RICHEST_FIRST:
        if not _missing(row, f"{prefix}throughput/{boundary}"):
            return _number(row, f"{prefix}throughput/{boundary}", 1)
    return Text("-")


def _factor(row: Any) -> Text:
    if _missing(row, "interaction/factor"):
        return Text("-")
    return Text(f"{row['interaction/factor']:.3f} {limits(*ends_of(row))}")


def _number(row: Any, name: str, digits: int, unit: str = "") -> Text:
    return Text("-" if _missing(row, name) else f"{row[name]:.{digits}f}{unit}")


def _missing(row: Any, name: str) -> bool:
    value = row.get(name)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(row: Any, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _has(frame: pandas.DataFrame, *names: str) -> bool:
    return any(name in frame and frame[name].notna().any() for name in names)
