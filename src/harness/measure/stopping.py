"""When a quartet is measured well enough: the interval of ln(factor) is narrow and the verdict is decided.

Looking after every block and stopping at the first verdict decides wrongly near the margin (7 to 9% at true factors of
1.049 and 1.051). So there are few looks, each at sqrt(2) times as many blocks as the one before, and the 99%
interval decides. A run whose interval became narrow is converged, decided or not; until it has
shown what its noise is, that interval is the one of noise as bad as it may be (`harness.stats.sequential`).

Without an arch or a hw technique there is no factor; then the interval of ln(gain), or of ln(throughput) for the
baseline alone, has to become as narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.config import ProtocolConfig
from harness.measure.samples import Samples
from harness.stats import Interaction, estimate
from harness.stats.interaction import Unseen, for_others, only_others_decide, too_few_builds
from harness.stats.intervals import mean_interval
from harness.stats.prior import KnownSpread
from harness.stats.sequential import stopping_half_width
from harness.stats.verdict import DECISION_LEVEL, is_decided

HOST_BOUND = 0.2  # of the wall time


@dataclass(frozen=True)
class Standing:
    """The state of a measurement after a block; `value` is a factor, a gain, or a throughput in images/s."""

    kind: str  # factor | gain | throughput
    value: float
    half_width: float  # of ln(value), at the protocol's level, by the blocks and builds
    verdict: str | None  # of a factor
    blocks: int
    stopping_half_width: float = math.nan  # what has to be narrow before measuring may stop; NaN: `half_width` itself
    quartet: str = ""  # its label; "" for one that has none
    only_others_decide: bool = False  # whether more blocks can't give a verdict, only other processes or builds

    @property
    def widest(self) -> float:
        """The half-width that more blocks have to narrow."""
        return self.half_width if math.isnan(self.stopping_half_width) else self.stopping_half_width

    def converged(self, settings: ProtocolConfig) -> bool:
        """Whether the interval is as narrow as the protocol asks for, also if the noise is worse than it looks."""
        assert settings.half_width is not None, "settle the protocol first"
        return math.isfinite(self.widest) and self.widest <= settings.half_width

    def enough(self, settings: ProtocolConfig) -> bool:
        """Whether measuring may stop: converged, and the verdict of a factor decided if blocks can decide it."""
        over = self.verdict is None or is_decided(self.verdict) or self.only_others_decide
        return self.converged(settings) and over


def is_look(blocks: int, first: int) -> bool:
    """Whether so many blocks are one of the looks: first x 1, 1.41, 2, 2.83, ..., rounded (10, 14, 20, 28, 40, ...)."""
    if blocks < first:
        return False
    nearest = round(2 * math.log2(blocks / first))
    return blocks == round(first * 2 ** (nearest / 2))


def family_level(level: float, quartets: int) -> float:
    """Return the level that decides in a sweep of so many quartets: what Holm's correction will ask for at most."""
    return max(DECISION_LEVEL, 1 - (1 - level) / max(1, quartets))


def standing(
    samples: Samples,
    boundary: str,
    settings: ProtocolConfig,
    decision_level: float = DECISION_LEVEL,
    builds: int | None = None,
) -> Standing:
    """Return the state of the measurement on one boundary; `builds`: to be measured, by default the protocol's."""
    builds = builds or settings.builds or 1
    throughput = samples.throughput(boundary)
    cells = throughput.shape[1]
    if cells == 4:
        of_blocks = interaction_on(samples, boundary, settings, decision_level)
        verdict, over = str(of_blocks.verdict), False
        if unseen := _unseen(samples, settings.restarts, builds):
            spread, only = unseen
            verdict, over = str(for_others(of_blocks, spread, only).verdict), only_others_decide(of_blocks, spread)
        elif known := samples.build_spread(samples.roles):
            over = too_few_builds(math.log(of_blocks.factor), known, builds, settings.margin, decision_level)
        return Standing(
            "factor",
            of_blocks.factor,
            of_blocks.half_width,
            verdict,
            samples.blocks,
            of_blocks.stopping_half_width,
            only_others_decide=over,
        )
    logs = np.log(throughput)
    series = logs[:, 0] if cells == 1 else logs[:, 1] - logs[:, 0]
    interval = mean_interval(series, *samples.replication(boundary), samples.build_spread(samples.roles))
    return Standing(
        "throughput" if cells == 1 else "gain",
        float(np.exp(interval.mean)),
        float(interval.half_width(settings.level)),
        None,
        samples.blocks,
        float(stopping_half_width(interval, samples.blocks, settings.level, DECISION_LEVEL)),
    )


def interaction_on(
    samples: Samples, boundary: str, settings: ProtocolConfig, decision_level: float = DECISION_LEVEL
) -> Interaction:
    """Return the factor of the four cells on one boundary; what a cell waits for the host is not on the device's."""
    restarts, builds = samples.replication(boundary)
    return estimate(
        samples.throughput(boundary),
        restarts,
        settings.margin,
        settings.level,
        host_bound=boundary != "device" and host_bound(samples),
        builds=builds,
        build_spread=samples.build_spread(samples.roles),
        decision_level=decision_level,
    )


def judged_on(samples: Samples, boundary: str, settings: ProtocolConfig) -> Interaction:
    """Return the factor as it is reported: of one restart or build, with what others would give where that is known."""
    found = interaction_on(samples, boundary, settings)
    unseen = _unseen(samples, found.restarts, found.builds)
    return found if unseen is None else for_others(found, *unseen)


def _unseen(samples: Samples, restarts: int, builds: int) -> tuple[KnownSpread, Unseen] | None:
    """Return what is known of other processes, or builds, where there is one set of them only; None: nothing is."""
    of_builds = samples.build_spread(samples.roles)
    if builds == 1 and of_builds is not None:
        return of_builds, "build"
    if restarts == 1 and samples.restart_spread is not None:
        return samples.restart_spread, "restart"
    return None


def host_shares(samples: Samples) -> dict[str, float]:
    """Return 1 - device / wall of each cell (median milliseconds); empty where there is no device boundary."""
    if not {"device", "wall"} <= set(samples.boundaries):
        return {}
    return {
        role: 1.0
        - float(np.median(samples.milliseconds(role, "device")) / np.median(samples.milliseconds(role, "wall")))
        for role in samples.roles
    }


def host_bound(samples: Samples) -> bool:
    """Whether some cell waits for the host for more than a fifth of its time."""
    return samples.launch_bound or any(share > HOST_BOUND for share in host_shares(samples).values())
