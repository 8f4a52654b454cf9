"""Why a quartet has the factor it has: its factor taken apart by part of the network, and sentences that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.engines.profiling import ENOUGH, SPANNING, UNKNOWN, CellProfile, order_of
from harness.stats.roles import ROLES
from harness.stats.stagewise import Stagewise, decompose
from harness.system.counts import counted

SAME_CLOCK = 0.002  # of ln(factor): less than an interval resolves
CeilingShare = tuple[float, bool]  # achieved share of the nearer ceiling; whether that one is the memory's
PAIRS = (("baseline", "hw"), ("arch", "combined"))  # the same network without and with the hardware techniques


@dataclass(frozen=True)
class Why:
    """Everything that the sentences come from."""

    stagewise: Stagewise
    profiles: Mapping[str, CellProfile]  # by role
    work_ms: Mapping[str, float]  # a batch's time on the device, by role, to which the profiles were scaled
    boundary: str
    incomplete: tuple[str, ...]  # cells less than 90% of whose time is attributed
    sentences: tuple[str, ...]
    clock_factor: float | None = None  # what the cells' clocks make of the factor at most; None where unknown


def explain(
    profiles: Mapping[str, CellProfile],
    throughput_ips: Mapping[str, float],
    device_ips: Mapping[str, float] | None,
    boundary: str,
    batch_size: int,
    log_host_on_wall: float | None = None,
    half_width: float = 0.0,
    established: bool = True,
    ceiling_shares: Mapping[str, CeilingShare] | None = None,
    clocks_mhz: Mapping[str, float] | None = None,
) -> Why | None:
    """Return the why of a quartet, None where not all four cells could be profiled.

    `throughput_ips` is that of the boundary whose factor is explained, `device_ips` that of the device where there is
    one; without it (a CPU) the profiler's own share of kernels in a batch parts the host from the work.
    `half_width` is that of the interval of ln(factor): nothing smaller is named as a cause, and none where it holds 1.
    `established` tells whether the verdict is: else the sentences say that theirs is only what was measured.
    `ceiling_shares`: what each cell reached of the machine's ceilings, where that is known.
    `clocks_mhz`: the mean clock of each cell while it was timed, where that is known.
    `log_host_on_wall` is ln(wall's factor / device's), where the factor explained is the device's.
    """
    if set(profiles) != set(ROLES) or set(throughput_ips) != set(ROLES):
        return None
    if any(profile.work_ms <= 0 or profile.batch_ms <= 0 for profile in profiles.values()):
        return None
    total_ms = {role: 1e3 * batch_size / throughput_ips[role] for role in ROLES}
    if device_ips is not None and set(device_ips) == set(ROLES):
        work_ms = {role: 1e3 * batch_size / device_ips[role] for role in ROLES}
    else:
        work_ms = {role: total_ms[role] * min(1.0, profiles[role].work_ms / profiles[role].batch_ms) for role in ROLES}
    unpaired = unpaired_parts(profiles)
    comparable = {role: without_unpaired(profiles[role], unpaired) for role in ROLES}
    found = decompose({role: comparable[role].parts_ms for role in ROLES}, work_ms, total_ms)
    incomplete = tuple(role for role in ROLES if profiles[role].attributed < ENOUGH)
    first = _cause(found, log_host_on_wall, half_width, established)
    sentences = (*([first] if first else []), *_sentences(profiles, incomplete))
    if unpaired:
        shown = f'Only some engines report {_listed(unpaired)}, so that time is shown as "unattributed".'
        sentences = (*sentences, shown)
    under, clock = ceiling_sentence(ceiling_shares or {}), clock_factor(clocks_mhz or {})
    of_clock = clock_sentence(clocks_mhz or {}, clock, half_width)
    sentences = (*sentences, *(text for text in (of_clock, under) if text))
    return Why(found, profiles, work_ms, boundary, incomplete, sentences, clock)


def part_times(why: Why) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each part in each cell, scaled to what was timed, parts in the network's order."""
    names = sorted({name for profile in why.profiles.values() for name in profile.parts_ms}, key=order_of)
    return {
        name: {
            role: profile.parts_ms.get(name, 0.0) * why.work_ms[role] / profile.work_ms
            for role, profile in why.profiles.items()
        }
        for name in names
    }


WITHHELD = "The source of the factor is not reported: its interval contains 1."
_CAUSES = ("The factor of ", "No verdict is established; as measured, the factor of ")  # how such a sentence begins


def holds_one(low: float, high: float) -> bool:
    """Return whether an interval of a factor leaves open whether there is anything to explain."""
    return low <= 1 <= high


def without_cause(text: str, low: float, high: float) -> str:
    """Return a row's `why` without its first sentence where that explains a factor whose interval holds 1."""
    if not (text.startswith(_CAUSES) and holds_one(low, high)):
        return text
    return f"{WITHHELD} {text.partition('. ')[2]}".rstrip()


def _cause(found: Stagewise, log_host_on_wall: float | None, half_width: float, established: bool) -> str:
    """Return the sentence on where the factor comes from; of a cause that its interval could hide, none."""
    if half_width and abs(found.log_factor) <= half_width:
        return WITHHELD
    pieces = {
        f"the host's share ({_times(found.host)})": found.host,
        f"parts scaling differently ({_times(found.amdahl)} by pure stage-wise scaling)": found.amdahl,
        **{
            f"{_of(name)} ({_times(value)})": value
            for name, value in sorted(found.parts.items(), key=lambda part: -abs(part[1]))
        },
    }
    pieces = {text: value for text, value in pieces.items() if abs(value) > half_width}
    along = {text: value for text, value in pieces.items() if value * found.log_factor > 0}
    most = max((abs(value) for value in along.values()), default=0.0)
    leading = [text for text in sorted(along, key=lambda text: -abs(along[text])) if abs(along[text]) > most / 4][:2]
    factor = math.exp(found.log_factor)
    subject = f"{_CAUSES[0] if established else _CAUSES[1]}{factor:.3f}"
    if not leading:
        return f"{subject} comes from no part by more than its interval is wide." if half_width else ""
    first = f"{subject} comes mostly from {' and '.join(leading)}."
    against = min(pieces, key=lambda text: pieces[text] * math.copysign(1, found.log_factor))
    if pieces[against] * found.log_factor < 0 and abs(pieces[against]) > 0.2 * abs(found.log_factor):
        first = f"{first[:-1]}, against {against}."
    if log_host_on_wall is not None and abs(log_host_on_wall) > half_width:
        first = f"{first[:-1]}; on the wall clock the host makes it {_times(log_host_on_wall)}."
    return first


def _sentences(profiles: Mapping[str, CellProfile], incomplete: tuple[str, ...]) -> tuple[str, ...]:
    """Return one sentence on the kernels; a second where little of the time is attributed."""
    kernels = ", ".join(f"{role} {profiles[role].kernels}" for role in ROLES)
    moves = {role: profiles[role].moves_ms / profiles[role].work_ms for role in ROLES}
    shares = ", ".join(f"{role} {moves[role]:.0%}" for role in ROLES)
    second = f"Kernels or nodes a batch: {kernels}; share of reformats, copies and casts: {shares}."
    third = ""
    if incomplete:
        worst = min(profiles[role].attributed for role in incomplete)
        third = (
            f"Less than {ENOUGH:.0%} of the time could be attributed to a part in {', '.join(incomplete)} "
            f"(as little as {worst:.0%}), so the parts do not explain all of it."
        )
    return tuple(part for part in (second, third) if part)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {counted(len(names) - 3, 'other part')}" if len(names) > 3 else "")


def _of(part: str) -> str:
    return {SPANNING: "kernels fused across parts", UNKNOWN: "unattributed time"}.get(part, part)


def _times(log_value: float) -> str:
    return f"x {math.exp(log_value):.3f}"


def clocks_mhz(metrics: Mapping[str, float], prefixes: Mapping[str, str]) -> dict[str, float]:
    """Return each role's clock from a quartet's metrics; unknown ones are left out."""
    names = {role: f"{prefix}gpu/clock_mhz" for role, prefix in prefixes.items()}
    return {role: metrics[name] for role, name in names.items() if name in metrics}


def clock_factor(clocks: Mapping[str, float]) -> float | None:
    """Return the factor of the four cells' clocks, None where one is unknown.

    A cell at the power limit runs at a lower clock, and so part of a factor is power shared, not work. Time that
    the multiprocessors take is in proportion to their clock, time that memory takes is not: of the factor, this much at
    most.
    """
    if set(clocks) != set(ROLES) or min(clocks.values()) <= 0:
        return None
    return clocks["combined"] * clocks["baseline"] / (clocks["arch"] * clocks["hw"])


def clock_sentence(clocks: Mapping[str, float], factor: float | None, half_width: float = 0.0) -> str:
    """Return what the clocks make of the factor; "" where they are unknown or make less of it than its half-width."""
    if factor is None or abs(math.log(factor)) < max(SAME_CLOCK, half_width):
        return ""
    shown = ", ".join(f"{role} {clocks[role]:.0f}" for role in ROLES)
    return f"The cells' clocks differ (MHz: {shown}): up to x {factor:.3f} of the factor is theirs."


def ceiling_shares(metrics: Mapping[str, float], prefixes: Mapping[str, str]) -> dict[str, CeilingShare]:
    """Return each role's share of its nearer ceiling from a quartet's metrics; unknown shares are left out."""
    return {
        role: (metrics[f"{prefix}roofline/share"], bool(metrics[f"{prefix}roofline/memory_bound"]))
        for role, prefix in prefixes.items()
        if f"{prefix}roofline/share" in metrics
    }


def ceiling_sentence(found: Mapping[str, CeilingShare]) -> str:
    """Return the shares of all four cells in a sentence; "" where one of them is unknown."""
    if set(found) != set(ROLES):
        return ""
    shares = ", ".join(f"{role} {found[role][0]:.0%} of {'memory' if found[role][1] else 'compute'}" for role in ROLES)
    return f"Achieved share of the nearer ceiling: {shares}."


def unpaired_parts(profiles: Mapping[str, CellProfile]) -> tuple[str, ...]:
    """Return the parts that only one cell of a pair reports, in the network's order, where they are much of its time.

    Both cells of a pair run the same network, so such a part was named differently or fused with another one, and a
    ratio of its times says nothing. A part that an architecture technique removes or adds is not meant.
    """
    unpaired: set[str] = set()
    for first, second in PAIRS:
        unpaired |= set(profiles[first].parts_ms) ^ set(profiles[second].parts_ms)
    unpaired -= {SPANNING, UNKNOWN}
    shares = [
        sum(profile.parts_ms.get(part, 0.0) for part in unpaired) / profile.work_ms for profile in profiles.values()
    ]
    return tuple(sorted(unpaired, key=order_of)) if max(shares) > 1 - ENOUGH else ()


def without_unpaired(profile: CellProfile, unpaired: tuple[str, ...]) -> CellProfile:
    """Return a profile whose unpaired and fused parts are UNKNOWN; the profile itself if no part is unpaired."""
    if not unpaired:
        return profile
    removed = {*unpaired, SPANNING, UNKNOWN}
    rest = {part: ms for part, ms in profile.parts_ms.items() if part not in removed}
    unattributed_ms = sum(ms for part, ms in profile.parts_ms.items() if part in removed)
    return replace(profile, parts_ms={**rest, UNKNOWN: unattributed_ms} if unattributed_ms else rest)


def details(why: Why) -> dict[str, Any]:
    """Return all of it for `interaction.json`: logarithms of factors, milliseconds by part and role, the profiles."""
    return {
        "boundary": why.boundary,
        "sentences": why.sentences,
        "log_factor": why.stagewise.log_factor,
        "log_host": why.stagewise.host,
        "log_amdahl": why.stagewise.amdahl,
        "log_clock": None if why.clock_factor is None else math.log(why.clock_factor),  # within the others, not beside
        "log_parts": dict(why.stagewise.parts),
        "part_ms": part_times(why),
        "incomplete": why.incomplete,
        "profiles": {role: asdict(profile) for role, profile in why.profiles.items()},
    }
