"""Two studies side by side: which cells and factors changed beyond their intervals, and a gate on that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from harness.report.choose import cell_label
from harness.report.quartets import QuartetRow, half_width_of, interval, quartets
from harness.report.study import Study
from harness.results.units import counted_in, unit_of_throughput
from harness.stats.factorial import Ratio, ratio
from harness.stats.intervals import BlockSeries, change, joined
from harness.stats.roles import ROLES
from harness.system.counts import counted
from harness.system.errors import UserError

if TYPE_CHECKING:
    import pandas


# what a comparison is about: these may differ between the two
_FREE = ("gpu", "engine_version")
_WORK = "roofline/gflop_per_image"
_ABOUT = ("gpu", "engine_version", "git_sha")


@dataclass(frozen=True)
class CellChange:
    """One cell of one quartet in both studies."""

    label: str
    boundary: str
    before_ips: float
    after_ips: float
    unit: str  # of both
    ratio: Ratio | None  # after / before; None where samples are missing or too few
    no_ratio: str  # why


@dataclass(frozen=True)
class FactorChange:
    """One quartet's factor in both studies."""

    label: str
    before: Ratio
    after: Ratio
    ratio: Ratio  # after / before


@dataclass(frozen=True)
class Comparison:
    """What two studies of the same cells say."""

    before: str
    after: str
    differing: tuple[tuple[str, str, str], ...]  # what, before, after: driver, version, commit ...
    cells: tuple[CellChange, ...]
    factors: tuple[FactorChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    lost: tuple[str, ...]  # finished before, failed after
    level: float


def compare(before: Study, after: Study) -> Comparison:
    """Compare the quartets that both studies have, cell by cell; repetitions of a quartet count as its restarts."""
    old, new = _by_key(before), _by_key(after)
    both = [key for key in old if key in new]
    pairs = [(_finished(old[key]), _finished(new[key])) for key in both]
    measured = [(old_runs, new_runs) for old_runs, new_runs in pairs if old_runs and new_runs]
    family = sum(len(set(old_runs[0].cells) & set(new_runs[0].cells)) for old_runs, new_runs in measured)
    levels = (quartet.row.get("protocol.level") for old_runs, _ in measured for quartet in old_runs)
    level = float(next((value for value in levels if value), 0.95))
    cells = [_cells(before, after, old_runs, new_runs, level, family) for old_runs, new_runs in measured]
    unrepeated = [(old_runs[0], new_runs[0]) for old_runs, new_runs in measured if len(old_runs) == len(new_runs) == 1]
    return Comparison(
        before=before.name,
        after=after.name,
        differing=(*_differing(before, after), *_work_differing(measured)),
        cells=tuple(chain.from_iterable(cells)),
        factors=tuple(_factors(unrepeated)),
        only_before=tuple(runs[0].name for key, runs in old.items() if key not in new),
        only_after=tuple(runs[0].name for key, runs in new.items() if key not in old),
        lost=tuple(old[key][0].name for key in both if _finished(old[key]) and not _finished(new[key])),
        level=level,
    )


def _by_key(study: Study) -> dict[tuple[object, ...], list[QuartetRow]]:
    """Return the quartets by what was requested: those with the same key are repetitions."""
    out: dict[tuple[object, ...], list[QuartetRow]] = {}
    for quartet in quartets(study.frame):
        options = tuple(
            sorted(
                (str(name), str(value))
                for name, value in quartet.row.items()
                if str(name).startswith(("arch.", "hw.")) and value is not None
            )
        )
        setting = tuple((name, value) for name, value in quartet.setting if name not in _FREE)
        key = (setting, quartet.row.get("arch"), quartet.row.get("hw"), quartet.row.get("precision"), options)
        out.setdefault(key, []).append(quartet)
    return out


def _finished(runs: Sequence[QuartetRow]) -> list[QuartetRow]:
    return [quartet for quartet in runs if quartet.status == "FINISHED"]


def _cells(
    before: Study, after: Study, old: Sequence[QuartetRow], new: Sequence[QuartetRow], level: float, family: int
) -> list[CellChange]:
    setting = dict(new[0].setting)
    boundary, batch = setting.get("boundary", ""), int(setting["batch_size"])
    samples = [[_timed(study, quartet) for quartet in runs] for study, runs in ((before, old), (after, new))]
    unit, out = unit_of_throughput(new[0].row), []
    for role in ROLES:
        if not all(role in quartet.cells for quartet in (*old, *new)):
            continue
        series = [[block_series(rows, role, boundary, batch) for rows in runs if rows is not None] for runs in samples]
        known = [[blocks for blocks in runs if blocks is not None] for runs in series]
        found, reason = None, "its samples were not stored"
        if all(known):
            found, reason = change(joined(known[0]), joined(known[1]), level, family), "too few blocks for an interval"
        label = f"{new[0].name} ({setting['engine']}): {role}, {cell_label(new[0], role)}"
        logs = [[math.log(quartet.cells[role].throughput_ips) for quartet in runs] for runs in (old, new)]
        speeds = [math.exp(float(np.mean(values))) for values in logs]
        out.append(CellChange(label, boundary, speeds[0], speeds[1], unit, found, "" if found else reason))
    return out


def _timed(study: Study, quartet: QuartetRow) -> pandas.DataFrame | None:
    """Return what was timed: whole visits where only every n-th iteration was stored."""
    visits = study.files.visits(quartet.run_id)
    return study.files.samples(quartet.run_id) if visits is None or visits.empty else visits


def block_series(samples: pandas.DataFrame, role: str, boundary: str, batch_size: int) -> BlockSeries | None:
    """Return the throughput of each block of a cell, from iterations or whole visits; None where there is no sample."""
    rows = samples[(samples["cell"] == role) & (samples["boundary"] == boundary)]
    if not len(rows):
        return None
    # older samples lack the build; a row without a count is a single iteration
    rows = rows.assign(build=rows.get("build", 0), iterations=rows.get("iterations", 1))
    blocks = rows.groupby(["build", "restart", "block"], sort=True, observed=True)[["iterations", "milliseconds"]].sum()
    table = (1e3 * batch_size * blocks["iterations"] / blocks["milliseconds"]).reset_index(name="ips")
    restart = table.groupby(["build", "restart"], sort=True).ngroup().to_numpy(dtype=np.intp)
    build = table.groupby("build", sort=True).ngroup().to_numpy(dtype=np.intp)
    return BlockSeries(table["ips"].to_numpy(dtype=float), restart, build)


def _factors(pairs: list[tuple[QuartetRow, QuartetRow]]) -> list[FactorChange]:
    out = []
    for old, new in pairs:
        if old.factor and new.factor:
            half_width = math.hypot(half_width_of(old.factor), half_width_of(new.factor))
            moved = ratio(math.log(new.factor.value / old.factor.value), half_width)
            out.append(FactorChange(new.name, old.factor, new.factor, moved))
    return out


def _differing(before: Study, after: Study) -> tuple[tuple[str, str, str], ...]:
    """Return the name, before and after, of what differs between the machines and versions of the studies."""
    described: list[dict[str, str]] = []
    for study in (before, after):
        rows = [quartet for quartet in quartets(study.frame) if quartet.status == "FINISHED"]
        values = {name: {str(quartet.row[name]) for quartet in rows if quartet.row.get(name)} for name in _ABOUT}
        facts = {name: ", ".join(sorted(found)) for name, found in values.items()}
        machine = study.files.json(rows[0].run_id, "environment.json") if rows else {}
        facts["driver"] = str((machine.get("gpu") or {}).get("driver", ""))
        facts["cpu"] = str((machine.get("cpu") or {}).get("name", ""))
        facts["torch"] = str((machine.get("packages") or {}).get("torch", ""))
        described.append(facts)
    old, new = described
    return tuple((name, old[name], new[name]) for name in old if old[name] != new[name])


def _work_differing(pairs: Sequence[tuple[list[QuartetRow], list[QuartetRow]]]) -> list[tuple[str, str, str]]:
    """Return the operations an image, before and after, of each cell that computes something else now.

    A change of speed is then one of the network, not of what runs it.
    """
    out: dict[str, tuple[str, str, str]] = {}
    for old_runs, new_runs in pairs:
        for role in ROLES:
            cells = [quartet.cells.get(role) for quartet in (old_runs[0], new_runs[0])]
            old, new = (None if cell is None else cell.metrics.get(_WORK) for cell in cells)
            if old is not None and new is not None and f"{old:.4g}" != f"{new:.4g}":
                what = f"{counted_in(new_runs[0].row, 'GFLOP/image')} of {cell_label(new_runs[0], role)}"
                out.setdefault(what, (what, f"{old:.4g}", f"{new:.4g}"))
    return list(out.values())


@dataclass(frozen=True)
class Gate:
    """Fail where a cell is slower by more than a share, beyond its interval."""

    slower: float  # 0.03: the throughput is below 0.97 of what it was


def parse_gate(text: str) -> Gate:
    """Return the gate in "slower:3%".

    Raises:
        UserError: it is not a gate.

    """
    kind, _, share = text.partition(":")
    try:
        value = float(share.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if kind != "slower" or not share.endswith("%") or not 0 <= value < 1:
        raise UserError(f"--fail-on {text}: not a gate; write slower:N% with N from 0 to under 100, as slower:3%.")
    return Gate(value)


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a comparison: it fails for sure, it can't tell, or (both empty) it passes for sure."""

    failed: tuple[str, ...]  # cells that are slower than allowed by their whole interval; quartets that finish no more
    undecided: tuple[str, ...]  # cells whose interval holds the limit, or that have none


def judge(comparison: Comparison, gate: Gate) -> Judgement:
    """Return what the gate says, a line for each cell that it does not pass.

    Raises:
        UserError: nothing could be compared, so the gate can say nothing.

    """
    known = [cell for cell in comparison.cells if cell.ratio is not None]
    if not known and not comparison.lost:
        raise UserError(
            f"{comparison.before} and {comparison.after} have no cell with samples in common: the gate can't decide."
        )
    limit = 1 - gate.slower
    failed, undecided = [], []
    for cell in comparison.cells:
        if cell.ratio is None:
            undecided.append(f"undecided: {cell.label}: {cell.no_ratio}")
        elif cell.ratio.high < limit:
            failed.append(f"slower: {cell.label}: {interval(cell.ratio)} of what it was")
        elif cell.ratio.low < limit:
            text = f"{interval(cell.ratio)} of what it was; the limit of {limit:.4g} is within"
            undecided.append(f"undecided: {cell.label}: {text}")
    return Judgement((*failed, *(f"failed now: {name}" for name in comparison.lost)), tuple(undecided))


def print_judgement(console: Console, comparison: Comparison, gate: Gate, found: Judgement) -> None:
    """Print what the gate came to, in one line that a log can be searched for."""
    cells = counted(len(comparison.cells), "cell")
    if found.failed:
        said, style = f"failed, {len(found.failed)} slower for sure or without a result now", "red"
    elif found.undecided:
        said, style = "undecided, none is slower for sure; more restarts or blocks would tell", "yellow"
    else:
        said, style = "passed, none is slower by more", "green"
    unsure = f", {len(found.undecided)} undecided" if found.undecided else ""
    _say(console, f"Gate slower:{100 * gate.slower:g}%, of {cells}{unsure}: {said}.", style)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print what changed beyond its interval, what may have, and what could not be compared."""
    _say(console, f"{comparison.before} -> {comparison.after}")
    for name, old, new in comparison.differing:
        _say(console, f"  {name}: {old or '-'} -> {new or '-'}")
    known = [cell for cell in comparison.cells if cell.ratio is not None]
    changed = [cell for cell in known if cell.ratio is not None and is_changed(cell.ratio)]
    if known:
        _say(
            console,
            f"Throughput after / before, {comparison.level:.0%} intervals for all "
            f"{counted(len(known), 'cell')} together (Bonferroni): {len(changed)} changed beyond their interval.",
        )
    else:
        _say(console, "No cell with samples in common.", "yellow")
    for cell in changed:
        _say(console, f"  {_line(cell)}", "red" if cell.after_ips < cell.before_ips else "green")
    for cell in known:
        if cell not in changed:
            _say(console, f"  {_line(cell)}", "dim")
    for cell in comparison.cells:
        if cell.ratio is None:
            _say(console, f"  not compared: {cell.label}: {cell.no_ratio}", "yellow")
    for factor in comparison.factors:
        if is_changed(factor.ratio):
            _say(console, f"Factor of {factor.label}: {interval(factor.before)} -> {interval(factor.after)}", "yellow")
    for title, names in unpaired(comparison):
        if names:
            _say(console, f"{title}: {', '.join(names)}", "yellow")


def unpaired(comparison: Comparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the quartets that could not be compared, under what is to be said of them."""
    return (
        (f"only in {comparison.before}", comparison.only_before),
        (f"only in {comparison.after}", comparison.only_after),
        ("finished before, failed now", comparison.lost),
    )


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def is_changed(found: Ratio) -> bool:
    """Whether the interval excludes 1."""
    return found.low > 1 or found.high < 1


def _line(cell: CellChange) -> str:
    assert cell.ratio is not None
    speeds = f"{cell.before_ips:,.1f} -> {cell.after_ips:,.1f} {cell.unit} ({cell.boundary})"
    return f"{cell.label}: {speeds}, {interval(cell.ratio)}"
