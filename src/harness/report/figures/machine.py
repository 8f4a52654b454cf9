"""The machine: cells under its measured ceilings; clocks, power, temperature and load while the study ran."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas

from harness.report.figures.canvas import COLOURS, INK, SERIES, Picture, canvas, logarithmic
from harness.report.quartets import CellRow, QuartetRow
from harness.stats.roles import ROLES

_ROOFS = {"matmul_fp32_tflops": "-", "matmul_fp16_tflops": "--", "matmul_bf16_tflops": "-.", "matmul_int8_tops": ":"}
_MARKS = dict(zip(ROLES, "osD^", strict=True))


def draw_roofline(quartets: Sequence[QuartetRow]) -> Picture | None:
    """Draw the cells whose work was counted under the roof of their machine; None where either is not known."""
    cells = [(role, cell) for quartet in quartets for role, cell in quartet.cells.items() if _counted(cell)]
    if not cells:
        return None
    roofs = {name: [float(quartet.row[f"machine/{name}"]) for quartet in quartets if quartet.row.get(f"machine/{name}")]
             for name in ("copy_gb_s", *_ROOFS)}  # fmt: skip
    if not (roofs["copy_gb_s"] and any(roofs[name] for name in _ROOFS)):
        return None
    with canvas(3.6) as (figure, axes):
        intensity = [_intensity(cell) for _, cell in cells]
        span = np.geomspace(min(intensity) / 4, max(intensity) * 8, 100)
        for name, line in _ROOFS.items():
            if roofs[name]:
                peak, copy = float(np.median(roofs[name])), float(np.median(roofs["copy_gb_s"]))
                _, precision, unit = name.split("_")
                axes.plot(span, np.minimum(peak, span * copy / 1e3), line, color=INK, linewidth=1,
                          label=f"measured roof, {precision}: {peak:.3g} {unit[:-1].upper()}/s")  # fmt: skip
        for role in ROLES:
            members = [cell for each, cell in cells if each == role]
            if members:
                axes.plot(
                    [_intensity(cell) for cell in members], [_achieved(cell) for cell in members], _MARKS[role],
                    label=role, color=COLOURS[role], markeredgecolor=INK, markeredgewidth=0.5, linestyle="",
                )  # fmt: skip
        axes.set(xlabel="FLOP a byte, counted in the graph (log)", ylabel="TFLOP/s achieved (log)")
        logarithmic(axes, "x")
        logarithmic(axes, "y")
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=2)
    measured = [(role, cell.metrics["roofline/share"]) for role, cell in cells if "roofline/share" in cell.metrics]
    shares = {role: [share for each, share in measured if each == role] for role in ROLES}
    listed = "; ".join(f"{role} {min(found):.1%} to {max(found):.1%}" for role, found in shares.items() if found)
    return Picture(
        "roofline",
        "Roofline",
        f"Cells under the machine's ceilings; share of the nearer ceiling: {listed or 'not measured'}.",
        "Bytes are what the graph needs at least (inputs and outputs of each weighted operation once), not what an "
        "engine moved.",
        figure,
    )


def _counted(cell: CellRow) -> bool:
    return {"roofline/gflop_per_image", "roofline/mb_per_image"} <= set(cell.metrics)


def _intensity(cell: CellRow) -> float:
    return cell.metrics["roofline/gflop_per_image"] * 1e3 / cell.metrics["roofline/mb_per_image"]


def _achieved(cell: CellRow) -> float:
    return cell.metrics["roofline/gflop_per_image"] * cell.throughput_ips / 1e3


_POINTS = 500  # of a curve
_SHOWN = {
    "gpu_sm_clock_mhz": "SM clock, MHz", "gpu_power_w": "power, W", "gpu_temperature_c": "temperature, °C",
    "host_cpu_percent": "host CPU, %", "host_memory_percent": "host memory, %",
}  # fmt: skip


def draw_telemetry(readings: Sequence[pandas.DataFrame]) -> Picture | None:
    """Draw the readings of several quartets on one time axis; None where nobody took any."""
    tables = [table for table in readings if len(table) and "unix_s" in table]
    if not tables:
        return None
    whole = pandas.concat(tables).sort_values("unix_s")
    names = [name for name in _SHOWN if name in whole and whole[name].notna().any()]
    if not names:
        return None
    whole = whole.iloc[np.unique(np.linspace(0, len(whole) - 1, _POINTS).astype(int))]
    minutes = (whole["unix_s"] - whole["unix_s"].iloc[0]) / 60
    with canvas(0.5 + 0.9 * len(names), rows=len(names), sharex=True, squeeze=False) as (figure, grid):
        for axes, name, colour in zip(grid[:, 0], names, SERIES, strict=False):
            axes.plot(minutes, whole[name], ".", color=colour, markersize=3)
            axes.set_title(_SHOWN[name], loc="left")
            axes.grid(True)
        grid[-1, 0].set_xlabel("minutes since the first reading")
    listed = "; ".join(
        f"{_SHOWN[name]}: mean {whole[name].mean():.4g}, {whole[name].min():.4g} to {whole[name].max():.4g}"
        for name in names
    )
    slowed = "gpu_slowdown" in whole and bool((whole["gpu_slowdown"] > 0).any())
    return Picture(
        "telemetry", "Telemetry", f"Readings between timed slices. {listed}.",
        "Read between timed slices, never inside one." + (" The chip slowed down at times." if slowed else ""), figure,
    )  # fmt: skip
