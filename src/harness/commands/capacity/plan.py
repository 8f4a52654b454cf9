"""The plan: GPUs, load and cost for a demand, given what one GPU sustains. Arithmetic, nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.commands.capacity.curves import SustainedRate
from harness.commands.capacity.demand import HOUR_S, Demand


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
