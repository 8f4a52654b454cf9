"""A regression gate on a comparison: `--fail-on slower:3%`, and the lines that tell what changed."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from harness.report.compare import CellChange, Comparison
from harness.report.text import interval
from harness.stats.factorial import Ratio
from harness.system.errors import UserError


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
