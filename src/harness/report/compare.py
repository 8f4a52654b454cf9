"""Two studies side by side: which cells and factors changed beyond their intervals, and a gate on that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from harness.report.choose import cell_label
from harness.report.quartets import QuartetRow, quartets
from harness.report.study import Study
from harness.report.text import interval
from harness.stats.change import BlockSeries, change, joined
from harness.stats.factorial import Ratio, ratio
from harness.stats.roles import ROLES
from harness.system.errors import UserError

if TYPE_CHECKING:
    import pandas


# what a comparison is about: these may differ between the two
_FREE = ("gpu", "engine_version")
_ABOUT = ("gpu", "engine_version", "git_sha")


@dataclass(frozen=True)
class CellChange:
    """One cell of one quartet in both studies."""

    label: str
    boundary: str
    before_ips: float
    after_ips: float
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
    """Return which quartets both studies have, cell by cell. What a study repeated counts as restarts of one."""
    old, new = _by_key(before), _by_key(after)
    both = [key for key in old if key in new]
    pairs = [(_finished(old[key]), _finished(new[key])) for key in both]
    measured = [(ones, others) for ones, others in pairs if ones and others]
    family = sum(len(set(ones[0].cells) & set(others[0].cells)) for ones, others in measured)
    levels = (one.row.get("protocol.level") for ones, _ in measured for one in ones)
    level = float(next((one for one in levels if one), 0.95))
    return Comparison(
        before=before.name,
        after=after.name,
        differing=_differing(before, after),
        cells=tuple(one for ones, others in measured for one in _cells(before, after, ones, others, level, family)),
        factors=tuple(_factors([(ones[0], others[0]) for ones, others in measured if len(ones) == len(others) == 1])),
        only_before=tuple(ones[0].name for key, ones in old.items() if key not in new),
        only_after=tuple(ones[0].name for key, ones in new.items() if key not in old),
        lost=tuple(old[key][0].name for key in both if _finished(old[key]) and not _finished(new[key])),
        level=level,
    )


def _by_key(study: Study) -> dict[tuple[object, ...], list[QuartetRow]]:
    """Return the quartets by what they ask: those of one key were repeated."""
    out: dict[tuple[object, ...], list[QuartetRow]] = {}
    for one in quartets(study.frame):
        options = tuple(
            sorted(
                (str(name), str(value))
                for name, value in one.row.items()
                if str(name).startswith(("arch.", "hw.")) and value is not None
            )
        )
        setting = tuple((name, value) for name, value in one.setting if name not in _FREE)
        key = (setting, one.row.get("arch"), one.row.get("hw"), one.row.get("precision"), options)
        out.setdefault(key, []).append(one)
    return out


def _finished(ones: Sequence[QuartetRow]) -> list[QuartetRow]:
    return [one for one in ones if one.status == "FINISHED"]


def _cells(
    before: Study, after: Study, old: Sequence[QuartetRow], new: Sequence[QuartetRow], level: float, family: int
) -> list[CellChange]:
    setting = dict(new[0].setting)
    boundary, batch = setting.get("boundary", ""), int(setting["batch_size"])
    samples = [[_timed(study, one) for one in ones] for study, ones in ((before, old), (after, new))]
    out = []
    for role in ROLES:
        if not all(role in one.cells for one in (*old, *new)):
            continue
        series = [[block_series(one, role, boundary, batch) for one in runs if one is not None] for runs in samples]
        known = [[one for one in runs if one is not None] for runs in series]
        found, reason = None, "its samples were not kept"
        if all(known):
            found, reason = change(joined(known[0]), joined(known[1]), level, family), "too few blocks for an interval"
        label = f"{new[0].name} ({setting['engine']}): {role}, {cell_label(new[0], role)}"
        speeds = [
            math.exp(float(np.mean([math.log(one.cells[role].throughput_ips) for one in ones]))) for ones in (old, new)
        ]
        out.append(CellChange(label, boundary, speeds[0], speeds[1], found, "" if found else reason))
    return out


def _timed(study: Study, one: QuartetRow) -> pandas.DataFrame | None:
    """Return what was timed: whole visits where only a part of the iterations was kept."""
    visits = study.files.visits(one.run_id)
    return study.files.samples(one.run_id) if visits is None or visits.empty else visits


def block_series(samples: pandas.DataFrame, role: str, boundary: str, batch_size: int) -> BlockSeries | None:
    """Return images/s of each block of a cell, from iterations or whole visits; None where it has none."""
    own = samples[(samples["cell"] == role) & (samples["boundary"] == boundary)]
    if not len(own):
        return None
    # older samples know one build only; a row is one iteration where it does not say how many
    own = own.assign(build=own.get("build", 0), iterations=own.get("iterations", 1))
    blocks = own.groupby(["build", "restart", "block"], sort=True, observed=True)[["iterations", "milliseconds"]].sum()
    table = (1e3 * batch_size * blocks["iterations"] / blocks["milliseconds"]).reset_index(name="ips")
    restart = table.groupby(["build", "restart"], sort=True).ngroup().to_numpy(dtype=np.intp)
    build = table.groupby("build", sort=True).ngroup().to_numpy(dtype=np.intp)
    return BlockSeries(table["ips"].to_numpy(dtype=float), restart, build)


def _factors(pairs: list[tuple[QuartetRow, QuartetRow]]) -> list[FactorChange]:
    out = []
    for old, new in pairs:
        if old.factor and new.factor:
            halves = [math.log(one.high / one.low) / 2 if one.low > 0 else math.inf for one in (old.factor, new.factor)]
            moved = ratio(math.log(new.factor.value / old.factor.value), math.hypot(*halves))
            out.append(FactorChange(new.name, old.factor, new.factor, moved))
    return out


def _differing(before: Study, after: Study) -> tuple[tuple[str, str, str], ...]:
    """Return what the two were measured on where that is not the same."""
    told: list[dict[str, str]] = []
    for study in (before, after):
        rows = [one for one in quartets(study.frame) if one.status == "FINISHED"]
        facts = {name: ", ".join(sorted({str(one.row[name]) for one in rows if one.row.get(name)})) for name in _ABOUT}
        machine = study.files.json(rows[0].run_id, "environment.json") if rows else {}
        facts["driver"] = str((machine.get("gpu") or {}).get("driver", ""))
        facts["cpu"] = str((machine.get("cpu") or {}).get("name", ""))
        facts["torch"] = str((machine.get("packages") or {}).get("torch", ""))
        told.append(facts)
    return tuple((name, told[0][name], told[1][name]) for name in told[0] if told[0][name] != told[1][name])


@dataclass(frozen=True)
class Gate:
    """Fail where a cell is slower by more than a share, beyond its interval."""

    slower: float  # 0.03: the throughput is below 0.97 of what it was


def parse_gate(text: str) -> Gate:
    """Return the gate in "slower:3%".

    Raises:
        UserError: it is none.

    """
    kind, _, share = text.partition(":")
    try:
        value = float(share.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if kind != "slower" or not share.endswith("%") or not 0 <= value < 1:
        raise UserError(f"--fail-on {text}: not a gate; write slower:N% with N from 0 to under 100, as slower:3%.")
    return Gate(value)


def failures(comparison: Comparison, gate: Gate) -> list[str]:
    """Return why the gate fails: cells that are slower for certain, and quartets that finish no more.

    Raises:
        UserError: nothing could be compared, so the gate can say nothing.

    """
    known = [one for one in comparison.cells if one.ratio is not None]
    if not known and not comparison.lost:
        raise UserError(
            f"{comparison.before} and {comparison.after} have no cell with samples in common: the gate can't tell."
        )
    out = [
        f"slower: {one.label}: {interval(one.ratio)} of what it was"
        for one in known
        if one.ratio is not None and one.ratio.high < 1 - gate.slower
    ]
    return [*out, *(f"failed now: {name}" for name in comparison.lost)]


def print_comparison(console: Console, comparison: Comparison, gate: Gate | None) -> None:
    """Print what changed beyond its interval, what may have, and what could not be compared."""
    _say(console, f"{comparison.before} -> {comparison.after}")
    for name, old, new in comparison.differing:
        _say(console, f"  {name}: {old or '-'} -> {new or '-'}")
    known = [one for one in comparison.cells if one.ratio is not None]
    changed = [one for one in known if one.ratio is not None and is_changed(one.ratio)]
    if known:
        _say(
            console,
            f"Throughput after / before, {comparison.level:.0%} intervals for all {len(known)} cells together "
            f"(Bonferroni): {len(changed)} changed beyond their interval.",
        )
    else:
        _say(console, "No cell with samples in common.", "yellow")
    for one in changed:
        _say(console, f"  {_line(one)}", "red" if one.after_ips < one.before_ips else "green")
    for one in known:
        if one not in changed:
            _say(console, f"  {_line(one)}", "dim")
    if gate is not None:
        unsure = [one for one in known if one.ratio and one.ratio.low < 1 - gate.slower <= one.ratio.high]
        if unsure:
            _say(console, f"Of these, {len(unsure)} may be slower by more than {gate.slower:.3g}: not established, "
                          "but not ruled out; more restarts or blocks would tell.", "yellow")  # fmt: skip
    for one in comparison.cells:
        if one.ratio is None:
            _say(console, f"  not compared: {one.label}: {one.no_ratio}", "yellow")
    for factor in comparison.factors:
        if is_changed(factor.ratio):
            _say(console, f"Factor of {factor.label}: {interval(factor.before)} -> {interval(factor.after)}", "yellow")
    for title, names in (
        (f"only in {comparison.before}", comparison.only_before),
        (f"only in {comparison.after}", comparison.only_after),
        ("finished before, failed now", comparison.lost),
    ):
        if names:
            _say(console, f"{title}: {', '.join(names)}", "yellow")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def is_changed(found: Ratio) -> bool:
    """Whether the interval leaves out 1."""
    return found.low > 1 or found.high < 1


def _line(one: CellChange) -> str:
    assert one.ratio is not None
    return (
        f"{one.label}: {one.before_ips:,.1f} -> {one.after_ips:,.1f} images/s ({one.boundary}), {interval(one.ratio)}"
    )
