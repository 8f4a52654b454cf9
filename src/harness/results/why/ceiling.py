"""Where the cells of a quartet stand under the machine's ceilings, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from harness.stats.roles import ROLES

CeilingShare = tuple[float, bool]  # achieved share of the nearer ceiling; whether that one is the memory's


def standings(metrics: Mapping[str, float], prefixes: Mapping[str, str]) -> dict[str, CeilingShare]:
    """Return each role's standing from a quartet's metrics; roles whose share is not known are left out."""
    return {
        role: (metrics[f"{prefix}roofline/share"], bool(metrics[f"{prefix}roofline/memory_bound"]))
        for role, prefix in prefixes.items()
        if f"{prefix}roofline/share" in metrics
    }


def sentence(found: Mapping[str, CeilingShare]) -> str:
    """Return the sentence; empty unless all four cells stand somewhere."""
    if set(found) != set(ROLES):
        return ""
    shares = ", ".join(f"{role} {found[role][0]:.0%} of {'memory' if found[role][1] else 'compute'}" for role in ROLES)
    return f"Achieved share of the nearer ceiling: {shares}."
