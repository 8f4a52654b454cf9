"""What the machine was doing while the study ran: clocks, power, temperature of a GPU, load of the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas

from harness.report.figures.canvas import SERIES, Picture, canvas

_POINTS = 500  # of a curve
_SHOWN = {
    "gpu_sm_clock_mhz": "SM clock, MHz", "gpu_power_w": "power, W", "gpu_temperature_c": "temperature, °C",
    "host_cpu_percent": "host CPU, %", "host_memory_percent": "host memory, %",
}  # fmt: skip


def draw_telemetry(readings: Sequence[pandas.DataFrame]) -> Picture | None:
    """Draw the readings of several quartets on one time axis; None where nobody took any."""
    kept = [one for one in readings if len(one) and "unix_s" in one]
    if not kept:
        return None
    whole = pandas.concat(kept).sort_values("unix_s")
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
    told = "; ".join(
        f"{_SHOWN[name]}: mean {whole[name].mean():.4g}, {whole[name].min():.4g} to {whole[name].max():.4g}"
        for name in names
    )
    slowed = "gpu_slowdown" in whole and bool((whole["gpu_slowdown"] > 0).any())
    return Picture(
        "telemetry", "Telemetry", f"Readings between timed slices. {told}.",
        "Read between timed slices, never inside one." + (" The chip slowed down at times." if slowed else ""), figure,
    )  # fmt: skip
