"""A table on a terminal: columns where they fit whole, else row by row. A number is never cut to "1…"."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_GAP = 2  # spaces between two columns, and before a row's values


def new_console() -> Console:
    """Return a console on the standard output: names in brackets are no markup, and a file has 140 columns."""
    return Console(markup=False, width=None if sys.stdout.isatty() else 140)


def new_table() -> Table:
    """Return a table without lines, as all commands print it."""
    return Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))


def print_fitting(console: Console, tables: Sequence[Table]) -> None:
    """Print the first of these tables, the fullest first, that fits whole; if none does, the fullest row by row."""
    fitting = next((table for table in tables if _width(console, table) <= console.width), None)
    if fitting is not None:
        console.print(fitting)
        return
    first, *others = tables[0].columns
    rows = zip(first.cells, *(column.cells for column in others), strict=True)
    for name, *values in rows:
        console.print(_text(name, "bold"), overflow="fold")
        for column, value in zip(others, values, strict=True):
            _print_value(console, str(column.header), _text(value))


def _print_value(console: Console, heading: str, value: Text) -> None:
    indent = " " * _GAP
    is_long = len(heading) + value.cell_len + 2 * _GAP > console.width
    between = f"\n{2 * indent}" if is_long and heading else indent
    console.print(Text.assemble(indent, heading, between, value), overflow="fold")


def _width(console: Console, table: Table) -> int:
    """Return how wide a table must be for no word to be broken and no column without wrapping to be cut."""
    widths = []
    for column in table.columns:
        found = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        least = max(measured.maximum if column.no_wrap else measured.minimum for measured in found)
        widths.append(max(least, column.min_width or 0))
    return sum(widths) + _GAP * (len(widths) - 1)


def _text(cell: RenderableType, style: str = "") -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell), style=style)
