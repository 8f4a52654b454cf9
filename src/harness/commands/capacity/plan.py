"""The plan: GPUs, load and cost for a demand, given what one GPU sustains. Arithmetic, nothing else.

A demand is a constant rate, a daily profile, or a trace of arrivals, as rates hour by hour.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.commands.capacity.curves import SustainedRate
from harness.results.units import SAMPLE, counted_in
from harness.system.errors import UserError, first_line

if TYPE_CHECKING:
    import pandas

HOUR_S = 3600.0
DAY_H = 24
_MOST_S = 400 * DAY_H * HOUR_S  # a year and a month: beyond, a time is in another unit, or wrong
_LATEST_S = 1e11  # as seconds since 1970 the year 5138; milliseconds since 1970 are past it since 1973
_MOST_WINDOWS = 20_000_000
_MOST_IMAGES = 50_000_000  # in the busiest window, whose every arrival is simulated


@dataclass(frozen=True)
class Hour:
    """One hour of demand, or the part of it that a trace covers: its mean rate and the peak within it, images/s."""

    duration_s: float
    mean_per_s: float
    peak_per_s: float


@dataclass(frozen=True)
class Demand:
    """The demand hour by hour. `busiest_s` are the arrivals of a trace's busiest window (empty without a trace)."""

    text: str  # where it is from, in words
    hours: tuple[Hour, ...]
    busiest_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    amount: str = ""  # how much it is, in images

    def described(self, sample: str = "image") -> str:
        """Return all of it in words, for requests that bring images or something else."""
        return self.text + counted_in({SAMPLE: sample}, self.amount)

    @property
    def peak_per_s(self) -> float:
        """Return the highest rate, images/s."""
        return max(hour.peak_per_s for hour in self.hours)

    @property
    def images(self) -> float:
        """Return how many images come in all."""
        return sum(hour.mean_per_s * hour.duration_s for hour in self.hours)

    @property
    def duration_s(self) -> float:
        """Return how long it all takes."""
        return sum(hour.duration_s for hour in self.hours)

    @property
    def mean_per_s(self) -> float:
        """Return the mean rate, images/s."""
        return self.images / self.duration_s


def constant(rate_per_s: float) -> Demand:
    """Return a demand that never changes."""
    return Demand("", (Hour(HOUR_S, rate_per_s, rate_per_s),), amount=f"{rate_per_s:,.10g} images/s")


def profile(path: Path) -> Demand:
    """Return the demand of a day from a CSV with the columns `hour` (0 to below 24, rising) and `rate_per_s`.

    A rate holds from its hour to the next row's, the last one to midnight; the first row is hour 0. Fractions of
    an hour are fine: such an hour has a mean and a peak.

    Raises:
        UserError: the file is not that.

    """
    table = _table(path, ("hour", "rate_per_s"))
    starts, rates = table["hour"].to_numpy(float), table["rate_per_s"].to_numpy(float)
    if starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= DAY_H:
        raise UserError(f"{path}: its hours must rise from 0 to below 24, each once")
    if (rates < 0).any() or not rates.any():
        raise UserError(f"{path}: its rate_per_s must be zero or more, and not all zero")
    ends = np.append(starts[1:], DAY_H)
    hours = []
    for hour in range(DAY_H):
        inside = np.clip(np.minimum(ends, hour + 1) - np.maximum(starts, hour), 0, 1)  # hours of each row in this one
        hours.append(Hour(HOUR_S, float(inside @ rates), float(rates[inside > 0].max())))
    return Demand(f"daily profile {path.name}", tuple(hours))


def trace(path: Path, window_s: float = 60.0) -> Demand:
    """Return the demand of a CSV with a column `arrival_s` and, if requests bring several, `images`.

    Peaks are means over windows of `window_s`: a shorter one sees the chance of single arrivals, which the measured
    rate has in it already, a longer one averages real peaks away. What is left at the end joins the last window.

    Raises:
        UserError: the file is not that, or all its arrivals are at one moment.

    """
    table = _table(path, ("arrival_s",))
    times = table["arrival_s"].to_numpy(float)
    images = table["images"].to_numpy(float) if "images" in table else np.ones(times.size)
    if (images < 1).any() or (images % 1 != 0).any():
        raise UserError(f"{path}: its images must be whole numbers from 1 on")
    if np.median(times) > _LATEST_S:
        raise UserError(
            f"{path}: arrival_s is {np.median(times):.10g} in its middle, which as seconds since 1970 is the year 5138 "
            "or later: milliseconds, or finer? Write seconds"
        )
    order = np.argsort(times, kind="stable")
    times, images = times[order] - times.min(), images[order]
    span_s = float(times[-1])
    if span_s == 0:
        raise UserError(f"{path}: all arrivals are at one moment; a trace needs at least two")
    if span_s > _MOST_S or span_s / window_s > _MOST_WINDOWS:
        gaps_s = np.diff(times)
        gap = int(gaps_s.argmax())
        behind_s = table["arrival_s"].to_numpy(float)[order][gap + 1]
        raise UserError(
            f"{path}: it covers {span_s / HOUR_S / DAY_H:,.4g} days in windows of {window_s:g} s, with a gap of "
            f"{gaps_s[gap]:,.6g} s before its arrival at {behind_s:.10g}: is arrival_s in seconds throughout?"
        )
    edges = np.append(np.arange(max(1, int(span_s / window_s))) * window_s, span_s)
    counts, _ = np.histogram(times, edges, weights=images)
    rates = counts / (widths := np.diff(edges))
    _, starts = np.unique((edges[:-1] // HOUR_S).astype(int), return_index=True)  # of each hour, its first window
    covered, came = np.add.reduceat(widths, starts), np.add.reduceat(counts, starts)
    of_hours = (covered, came / covered, np.maximum.reduceat(rates, starts))
    hours = tuple(Hour(*map(float, row)) for row in zip(*of_hours, strict=True))
    top = int(rates.argmax())
    inside = (times >= edges[top]) & (times <= edges[top + 1])
    if images[inside].sum() > _MOST_IMAGES:
        raise UserError(
            f"{path}: {images[inside].sum():,.4g} images within {widths[top]:g} s are more than can be simulated "
            f"({_MOST_IMAGES:,}); is its column images right?"
        )
    amount = f"{images.sum():,.0f} images in {span_s:,.4g} s, peaks over {min(window_s, span_s):g} s"
    demand = Demand(f"trace {path.name}: ", hours, amount=amount)
    return replace(demand, busiest_s=np.repeat(times[inside] - edges[top], images[inside].astype(int)))


def _table(path: Path, columns: tuple[str, ...]) -> pandas.DataFrame:
    """Read a CSV whose `columns`, and `images` if there is one, are finite numbers; names count in any case."""
    import pandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # of fields that it would leave out
            # else the first of too many fields becomes an index, and each value is the one of the next column
            table = pandas.read_csv(path, skipinitialspace=True, index_col=False)
    except pandas.errors.ParserWarning:
        raise UserError(
            f"{path}: its rows have more fields than its header names: a decimal comma (write 0.5, not 0,5), "
            "a comma at the end, or a column without a name?"
        ) from None
    except Exception as error:  # of a text that is no table, of an archive that is cut off: each reader has its own
        raise UserError(f"can't read {path}: {first_line(error)}") from error
    names = [_column(str(name)) for name in table.columns]
    missing = [name for name in columns if name not in names]
    if missing:
        separator = next((mark for mark in (";", "\t") if len(names) == 1 and mark in names[0]), None)
        hint = "" if separator is None else f": its columns are separated by {separator!r}; write commas"
        raise UserError(f"{path}: no column {missing[0]}; it has {', '.join(map(str, table.columns))}{hint}")
    if table.empty:
        raise UserError(f"{path}: no rows below its header")
    found = {}
    for name in (*columns, *({"images"} & set(names))):
        if names.count(name) > 1:
            raise UserError(f"{path}: {names.count(name)} columns are called {name}; keep one")
        found[name] = _numbers(path, name, table.iloc[:, names.index(name)])
    return pandas.DataFrame(found)


def _column(name: str) -> str:
    """Return what a column is called in its file: pandas calls a second one of a name `images.1`."""
    return re.sub(r"\.\d+$", "", name).strip().lower()


def _numbers(path: Path, name: str, column: pandas.Series) -> pandas.Series:
    """Return a column as finite numbers; raises UserError that names the first row which holds something else."""
    import pandas

    numbers = pandas.to_numeric(column, errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(float)) | (column.dtype == bool)
    if bad.any():
        row = int(bad.argmax())
        raise UserError(f"{path}: row {row + 1}: {name} is {str(column.iloc[row])!r}, not a finite number")
    return numbers


@dataclass(frozen=True)
class Cost:
    """What a fleet costs, in the currency of the price."""

    per_hour: float
    per_million_images: float


@dataclass(frozen=True)
class FleetPlan:
    """A fleet of one cell.

    `utilisation` is demand over what all its GPUs sustain within the bound: headroom keeps the peak below 1.
    `gpus_low` and `gpus_high` are the numbers if a GPU sustained the upper or the lower end of its interval.
    `gpus_by_hour` follows the demand: each hour as many as its peak needs, changed at no cost (perfect autoscaling).
    Costs are None without a price.
    """

    sustained: SustainedRate
    headroom: float
    gpus: int
    gpus_low: int | None
    gpus_high: int | None
    utilisation_mean: float
    utilisation_peak: float
    cost: Cost | None
    gpus_by_hour: tuple[int, ...]
    autoscaled_gpus_mean: float
    autoscaled_cost: Cost | None


def gpus_needed(demand_per_s: float, rate_per_s: float, headroom: float) -> int:
    """Return ceil(demand / (rate (1 - headroom))): the share `headroom` of what each GPU sustains stays unused."""
    exact = demand_per_s / (rate_per_s * (1 - headroom))
    return math.ceil(exact * (1 - 1e-12))  # 800 / (100 x 0.8) is 10 GPUs, also in floating point


def plan_fleet(demand: Demand, sustained: SustainedRate, headroom: float, price_per_hour: float | None) -> FleetPlan:
    """Return the fleet that serves `demand`; `headroom` in [0, 1), `price_per_hour` of one GPU."""
    rate = sustained.rate_per_s
    gpus = gpus_needed(demand.peak_per_s, rate, headroom)
    by_hour = tuple(gpus_needed(hour.peak_per_s, rate, headroom) for hour in demand.hours)
    gpu_s = sum(count * hour.duration_s for count, hour in zip(by_hour, demand.hours, strict=True))
    autoscaled = gpu_s / demand.duration_s
    ends = (sustained.high_per_s, sustained.low_per_s)
    low, high = (gpus_needed(demand.peak_per_s, end, headroom) if end else None for end in ends)
    return FleetPlan(
        sustained=sustained,
        headroom=headroom,
        gpus=gpus,
        gpus_low=low,
        gpus_high=high,
        utilisation_mean=demand.mean_per_s / (gpus * rate),
        utilisation_peak=demand.peak_per_s / (gpus * rate),
        cost=_cost(gpus, demand, price_per_hour),
        gpus_by_hour=by_hour,
        autoscaled_gpus_mean=autoscaled,
        autoscaled_cost=_cost(autoscaled, demand, price_per_hour),
    )


def _cost(gpus: float, demand: Demand, price_per_hour: float | None) -> Cost | None:
    if price_per_hour is None:
        return None
    return Cost(gpus * price_per_hour, gpus * price_per_hour / (demand.mean_per_s * HOUR_S) * 1e6)
