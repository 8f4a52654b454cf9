"""Throughput against batch size, a line for each combination."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.choose import Candidate
from harness.report.figures.canvas import INK, MARKERS, SERIES, Picture, canvas, logarithmic, shortened

MOST = len(SERIES)


def draw_batches(candidates: Sequence[Candidate]) -> Picture | None:
    """Draw the combinations that were measured at several batch sizes; the fastest ones of many."""
    lines: dict[str, dict[int, float]] = {}
    for one in candidates:
        label = one.label + (f", {one.group}" if one.group else "")
        lines.setdefault(label, {})[one.batch_size] = one.throughput_ips
    several = {label: points for label, points in lines.items() if len(points) > 1}
    if not several:
        return None
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
        axes.set(xlabel="batch size", ylabel="images/s")
        logarithmic(axes, "y")
        axes.grid(True)
        axes.tick_params(colors=INK)
        figure.legend(loc="outside lower center", ncols=1 if max(map(len, fastest)) > 24 else 2)
    told = "; ".join(
        f"{label}: " + ", ".join(f"{several[label][size]:,.0f} at {size}" for size in sorted(several[label]))
        for label in fastest
    )
    cut = "" if len(several) <= MOST else f" The {MOST} fastest of {len(several)} combinations."
    return Picture(
        "batches",
        "Throughput against batch size",
        f"Images a second by batch size. {told}.",
        "Both axes are logarithmic." + cut,
        figure,
    )
