"""Report on a sweep or a committed study: table, factorial analysis, best combination, page; or compare two of them.

A study is a sweep's name or run id (default: the newest), or a folder that holds results.csv, or several such folders.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.config import TrackingConfig
from harness.report.choose import Limits
from harness.report.compare import Comparison, Gate, compare, judge, parse_gate, print_comparison, print_judgement
from harness.report.figures import pictures, stages
from harness.report.figures.canvas import Picture, write_figures
from harness.report.figures.changes import draw_changes
from harness.report.findings import find
from harness.report.page import comparison_page, page, write_page
from harness.report.study import Study, open_study
from harness.report.table import print_table
from harness.report.text import print_findings
from harness.system.command import CommandParser, number, run_command
from harness.system.errors import UserError
from harness.system.tables import new_console
from harness.tracking.store import resolve_uri

UNDECIDED = 3  # no cell is slower for sure, but some may be


def main(arguments: Sequence[str] | None = None) -> int:
    """Report; return 0, 1 where --fail-on found what it looks for, 2 where the request can't be met, 3 undecided."""
    return run_command("harness.report", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    console = new_console()
    uri = options.uri or resolve_uri(None, TrackingConfig().root)[0]
    gate = parse_gate(options.fail_on) if options.fail_on else None
    if gate is None and options.undecided:
        raise UserError("--undecided says what an undecided gate does: add a gate, as in --fail-on slower:3%.")
    limits = [
        name for name in ("max_accuracy_drop", "max_p99_ms", "max_memory_gb") if getattr(options, name) is not None
    ]
    named_studies = [study for study in (options.study, options.other) if study is not None]
    if options.uri is not None and named_studies and all(Path(study).is_dir() for study in named_studies):
        raise UserError(f"--uri: {' and '.join(named_studies)} are folders, read without a store: drop it.")
    if options.other is not None and limits:
        named = f"--{limits[0].replace('_', '-')}"
        raise UserError(f"{named} limits the best combination of one study; a comparison of two chooses none.")
    if options.other is not None:
        return _compare(console, options, gate)
    if gate is not None:
        raise UserError("--fail-on compares two studies: name both, python -m harness.report BEFORE AFTER.")
    _report(console, open_study(options.study, options.uri), options, uri)
    return 0


def _compare(console: Console, options: argparse.Namespace, gate: Gate | None) -> int:
    found = compare(open_study(options.study, options.uri), open_study(options.other, options.uri))
    print_comparison(console, found)
    judgement = None if gate is None else judge(found, gate)
    _write_comparison(console, found, options, gate)
    if gate is None or judgement is None:
        return 0
    print_judgement(console, found, gate, judgement)
    for reason in (*judgement.failed, *judgement.undecided):
        print(f"harness.report: {reason}", file=sys.stderr)
    if judgement.failed:
        return 1
    return UNDECIDED if judgement.undecided and options.undecided == "fail" else 0


def _write_comparison(console: Console, found: Comparison, options: argparse.Namespace, gate: Gate | None) -> None:
    """Write the requested page and figures."""
    drawn = draw_changes(found) if options.figures or options.html else ()
    if options.figures:
        _write_figures(console, options.figures, drawn)
    if options.html:
        _write_page(console, options.html, comparison_page(found, drawn, gate))


def _write_figures(console: Console, folder: Path, drawn: Sequence[Picture]) -> None:
    write_figures(folder, drawn)
    console.print(f"The figures: {folder}", highlight=False, soft_wrap=True)


def _write_page(console: Console, path: Path, text: str) -> None:
    write_page(path, text)
    console.print(f"The page: {path}", highlight=False, soft_wrap=True)


def _report(console: Console, study: Study, options: argparse.Namespace, uri: str) -> None:
    findings = find(study, Limits(options.max_accuracy_drop, options.max_p99_ms, options.max_memory_gb))
    print_table(console, study.frame, uri if study.sweep_id else None)
    if study.left_out:
        console.print(Text(f"Left out of the sweep (on_unsupported=skip):\n{study.left_out}"), soft_wrap=True)
    print_findings(console, findings)
    if options.figures:
        shown = (*pictures(findings).values(), *(picture for _, picture, _ in stages(study, findings)))
        _write_figures(console, options.figures, shown)
    if options.html:
        _write_page(console, options.html, page(study, findings))


def _parser() -> CommandParser:
    parser = CommandParser("harness.report", description=__doc__)
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a sweep's name or run id, or a study's folder")
    parser.add_argument("other", nargs="?", metavar="AFTER", help="a second study: say what changed from the first")
    parser.add_argument(
        "--fail-on", metavar="slower:N%", help="status 1 if a cell is slower by more than that for sure"
    )
    parser.add_argument(
        "--undecided", choices=("pass", "fail"), help="status 0 (default) or 3 if --fail-on can't tell for some cell"
    )
    parser.add_argument("--uri", help="tracking URI, or the folder of an embedded store (default: mlruns)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page: one file that needs no network")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write its pictures into DIR, as PNG and SVG")
    at_least_0 = number(0, closed=True)
    limits = parser.add_argument_group("limits on the best combination")
    limits.add_argument("--max-accuracy-drop", type=at_least_0, metavar="X", help="of top-1; 0.01 is one in a hundred")
    limits.add_argument("--max-p99-ms", type=at_least_0, metavar="MS", help="latency of one batch on the wall clock")
    limits.add_argument("--max-memory-gb", type=at_least_0, metavar="GB", help="of the cell's process, 10^9 bytes")
    return parser
