"""Holm's adjustment over a sweep's matrix: with many quartets, some would look decided by chance."""

from __future__ import annotations

from collections.abc import Sequence

from harness.stats.interaction import Interaction
from harness.stats.verdict import Verdict, is_decided


def holm(interactions: Sequence[Interaction]) -> list[Verdict]:
    """Return the verdicts that stand when the chance of *any* false one in the sweep is held at 1 - level.

    The null hypothesis of a quartet is that its verdict is wrong: that the true factor lies on the other side of the
    margin bound nearest to the estimate. Its p-value is the smallest 1 - level at which the interval still clears that
    bound (`Interaction.p_value`), so at a single quartet the rule is `estimate`'s own, and an adjusted verdict is
    either the unadjusted one or `inconclusive`. Undecided quartets count in the family. Source: Holm (1979), A simple
    sequentially rejective multiple test procedure, Scand. J. Statist. 6:65. It holds under any dependence.

    Raises:
        ValueError: if the interactions were not all estimated at one level.
    """
    alphas = {1 - interaction.level for interaction in interactions}
    if len(alphas) > 1:
        raise ValueError(f"all interactions must have the same level, got {sorted(1 - a for a in alphas)}")
    adjusted = holm_p_values([interaction.p_value for interaction in interactions])
    return [
        standing_verdict(interaction.verdict, p, interaction.level)
        for interaction, p in zip(interactions, adjusted, strict=True)
    ]


def standing_verdict(verdict: str, p_holm: float, level: float) -> Verdict:
    """Return what of a verdict stands at its adjusted p-value: itself, or `inconclusive`."""
    return Verdict(verdict) if is_decided(verdict) and p_holm < 1 - level else Verdict.INCONCLUSIVE


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order: max over i <= j of (K - i) * p_(i), at most 1."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
