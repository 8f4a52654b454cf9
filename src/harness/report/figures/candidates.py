"""Measured cells: speed against latency or memory, with the front that nothing beats; throughput by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.choose import Candidate, Choice
from harness.report.figures.canvas import FAINT, INK, MARKERS, SERIES, Picture, canvas, logarithmic, shortened
from harness.results.units import shared_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 8


def draw_pareto(choice: Choice) -> Picture | None:
    """Draw all candidates that have a latency; None with fewer than two."""
    known = [candidate for candidate in choice.candidates if candidate.p50_ms is not None]
    if len(known) < 2:
        return None
    front = [candidate for candidate in choice.front if candidate in known]
    refused = {id(candidate) for candidate, _ in choice.refused}
    with canvas(3.8) as (figure, axes):
        within = [candidate for candidate in known if id(candidate) not in refused and candidate not in front]
        outside = [candidate for candidate in known if id(candidate) in refused]
        for group, marker, colour, label in (
            (within, "o", FAINT, "beaten by another one"),
            (outside, "x", SERIES[5], "outside the limits, or not known to be within"),
        ):
            if group:
                axes.plot(*_points(group), marker, color=colour, markersize=5, linestyle="", label=label)
        line = _frontier(front)
        _draw_numbered(axes, front, line, choice.best)
        axes.set(
            xlabel="p50 latency of a batch, ms (log)",
            ylabel=f"{shared_unit(candidate.unit for candidate in known)} (log)",
        )
        axes.grid(True, which="major")
        axes.margins(0.12)
        logarithmic(axes, "x")
        logarithmic(axes, "y")
        _draw_front(axes, line)
        figure.legend(loc="outside lower center", ncols=1)
    listed = "; ".join(
        f"{candidate.label} at {candidate.setting}: {candidate.throughput_ips:,.0f} {candidate.unit}, "
        f"p50 {candidate.p50_ms:.3g} ms"
        for candidate in front
    )
    objectives = ", ".join(choice.objectives)
    others = [name for name in choice.objectives if name not in _DRAWN]
    hollow = f" Hollow: on the front for {' or '.join(others)}, which no axis shows." if len(line) < len(front) else ""
    return Picture(
        "pareto",
        f"Pareto front: {objectives}",
        f"Throughput against p50 latency. Objectives: {objectives}. On the front, fastest first: {listed}.",
        f"Objectives: {objectives}. Nothing beats a numbered point in one of them without losing in "
        f"another; the star is the fastest within the limits.{hollow}",
        figure,
    )


_DRAWN = ("throughput", "p50 latency")
_AROUND = ((6, 4), (-12, 4), (6, -11), (-12, -11))  # points, of a number from its mark


def _frontier(front: Sequence[Candidate]) -> list[Candidate]:
    """Return those of the front that none beats in both drawn objectives, by rising latency."""
    out: list[Candidate] = []
    for candidate in sorted(front, key=lambda member: (member.p50_ms or 0.0, -member.throughput_ips)):
        last = out[-1] if out else candidate
        is_as_good = (candidate.p50_ms, candidate.throughput_ips) == (last.p50_ms, last.throughput_ips)
        if is_as_good or candidate.throughput_ips > last.throughput_ips:
            out.append(candidate)
    return out


def _draw_numbered(axes: Axes, front: Sequence[Candidate], line: Sequence[Candidate], best: Candidate | None) -> None:
    """Draw the candidates of the front, hollow where it is not by the two axes; the first ones with their number."""
    for number, candidate in enumerate(front):
        label = f"{number + 1} {shortened(candidate.label, 40)}, {candidate.setting}"
        is_best, filled = candidate is best, candidate in line
        colour = SERIES[2 if is_best else 0]
        axes.plot(
            *_points([candidate]), "*" if is_best else "D", color=colour if filled else "none",
            markersize=12 if is_best else 7, markeredgecolor=INK if filled else colour, linestyle="",
            markeredgewidth=0.6 if filled else 1.4, label=label if number < MOST_NAMED else None,
        )  # fmt: skip
        if number < MOST_NAMED:
            place = (candidate.p50_ms or 0.0, candidate.throughput_ips)
            axes.annotate(str(number + 1), place, _AROUND[number % len(_AROUND)], textcoords="offset points")


def _draw_front(axes: Axes, line: Sequence[Candidate]) -> None:
    """Draw the border of what the front beats in both drawn objectives, to the edges of the picture."""
    if not line:
        return
    (_, slowest), (lowest, _) = axes.get_xlim(), axes.get_ylim()
    latencies, speeds = _points(list(line))
    axes.plot(
        [latencies[0], *latencies, slowest], [lowest, *speeds, speeds[-1]],
        color=SERIES[0], linewidth=1, drawstyle="steps-post", zorder=1, label="the front by the two axes",
        scalex=False, scaley=False,
    )  # fmt: skip


def _points(group: list[Candidate]) -> tuple[list[float], list[float]]:
    return [candidate.p50_ms or 0.0 for candidate in group], [candidate.throughput_ips for candidate in group]


MOST = len(SERIES)


def draw_batches(candidates: Sequence[Candidate]) -> Picture | None:
    """Draw the combinations that were measured at several batch sizes; the fastest ones of many."""
    lines: dict[str, dict[int, float]] = {}
    for candidate in candidates:
        label = candidate.label + (f", {candidate.group}" if candidate.group else "")
        lines.setdefault(label, {})[candidate.batch_size] = candidate.throughput_ips
    several = {label: points for label, points in lines.items() if len(points) > 1}
    if not several:
        return None
    unit = shared_unit(candidate.unit for candidate in candidates)
    fastest = sorted(several, key=lambda label: -max(several[label].values()))[:MOST]
    with canvas(3.6) as (figure, axes):
        for number, label in enumerate(fastest):
            sizes = sorted(several[label])
            axes.plot(
                sizes, [several[label][size] for size in sizes], color=SERIES[number], marker=MARKERS[number],
                label=shortened(label, 60),
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        every = sorted({size for points in several.values() for size in points})
        axes.set_xticks(every, [str(size) for size in every])
        axes.minorticks_off()
        axes.set(xlabel="batch size", ylabel=unit)
        logarithmic(axes, "y")
        axes.grid(True)
        axes.tick_params(colors=INK)
        figure.legend(loc="outside lower center", ncols=1 if max(map(len, fastest)) > 24 else 2)
    listed = "; ".join(
        f"{label}: " + ", ".join(f"{several[label][size]:,.0f} at {size}" for size in sorted(several[label]))
        for label in fastest
    )
    cut = "" if len(several) <= MOST else f" The {MOST} fastest of {len(several)} combinations."
    return Picture(
        "batches",
        "Throughput against batch size",
        f"Throughput ({unit}) by batch size. {listed}.",
        "Both axes are logarithmic." + cut,
        figure,
    )
