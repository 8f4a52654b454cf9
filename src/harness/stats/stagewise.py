"""An interaction factor taken apart: the host, what pure scaling of each part would give, and each part's own share.

With t[c, s] the time of part s in cell c and T[c] their sum, the device's factor is F = T_arch T_hw / (T_base T_comb).
If the accelerations of every part multiplied, the combined cell would take T* = sum_s t[arch, s] t[hw, s] / t[base, s]:
then F would be `amdahl` = T_arch T_hw / (T_base T*), which is not 1 wherever a technique speeds up some parts more than
others (Amdahl, 1967: what is left of the time is differently divided). What is left, T* / T_comb, is the parts' own
interaction, and ln(T* / T_comb) = sum_s (t*_s - t_s) / L(T*, T_comb) exactly, with L the logarithmic mean (Ang, 2005,
Energy Policy 33:867, the LMDI-I decomposition).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.stats.roles import ROLES


@dataclass(frozen=True)
class Stagewise:
    """ln(factor) = host + amdahl + sum of parts, all in logarithms."""

    log_factor: float  # on the requested boundary
    host: float  # of it what is not device time; 0 where the boundary is the device's own
    amdahl: float  # what pure stage-wise scaling gives
    parts: Mapping[str, float]  # what each part adds by an interaction of its own

    @property
    def amdahl_factor(self) -> float:
        """The factor if the gains of every part multiplied."""
        return math.exp(self.amdahl)


def decompose(
    parts_ms: Mapping[str, Mapping[str, float]], work_ms: Mapping[str, float], total_ms: Mapping[str, float]
) -> Stagewise:
    """Take a factor apart.

    Args:
        parts_ms: by role, the profile's time of each part: only its proportions count.
        work_ms: by role, the time of a batch on the device without the host; the parts are scaled to it.
        total_ms: by role, the time of a batch on the boundary whose factor is taken apart.

    Raises:
        ValueError: unless all four roles are there with positive times.
    """
    for values in (parts_ms, work_ms, total_ms):
        if set(values) != set(ROLES):
            raise ValueError(f"needs the four cells {ROLES}, got {sorted(values)}")
    if min(*work_ms.values(), *total_ms.values(), *(sum(parts.values()) for parts in parts_ms.values())) <= 0:
        raise ValueError("every cell needs a positive time")
    names = list(dict.fromkeys(name for role in ROLES for name in parts_ms[role]))
    times = {role: _scaled(parts_ms[role], work_ms[role], names) for role in ROLES}
    expected = {name: _expected(*(times[role][name] for role in ROLES)) for name in names}
    total_expected, combined = sum(expected.values()), work_ms["combined"]
    mean = _logarithmic_mean(total_expected, combined)
    by_part = {name: (expected[name] - times["combined"][name]) / mean for name in names}
    log_factor, work = _log_factor(total_ms), _log_factor(work_ms)
    amdahl = math.log(work_ms["arch"] * work_ms["hw"] / (work_ms["baseline"] * total_expected))
    return Stagewise(log_factor, log_factor - work, amdahl, by_part)


def _scaled(parts: Mapping[str, float], total: float, names: list[str]) -> dict[str, float]:
    scale = total / sum(parts.values())
    return {name: parts.get(name, 0.0) * scale for name in names}


def _expected(baseline: float, arch: float, hw: float, combined: float) -> float:
    """Return the time of a part if its gains multiplied; of a part that is not in the baseline, no interaction."""
    return arch * hw / baseline if baseline > 0 else combined


def _logarithmic_mean(a: float, b: float) -> float:
    return a if math.isclose(a, b, rel_tol=1e-12) else (a - b) / math.log(a / b)


def _log_factor(times: Mapping[str, float]) -> float:
    """Return ln(factor) of throughputs, from times."""
    return math.log(times["arch"] * times["hw"] / (times["baseline"] * times["combined"]))
