"""Corrections over a sweep's matrix: with many quartets, some would look decided by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.stats.interaction import Interaction
from harness.stats.verdict import Verdict, is_decided


def holm(interactions: Sequence[Interaction]) -> list[Verdict]:
    """Return the verdicts that remain when the chance of *any* false one in the sweep is held at 1 - level.

    The null hypothesis of a quartet is that its verdict is wrong: that the true factor lies on the other side of the
    margin bound nearest to the estimate. Its p-value is the smallest 1 - level at which the interval still clears that
    bound (`Interaction.p_value`), so at a single quartet the rule is `estimate`'s own, and an adjusted verdict is
    either the unadjusted one or `inconclusive`. Undecided quartets count in the family. Source: Holm (1979), A simple
    sequentially rejective multiple test procedure, Scand. J. Statist. 6:65. It holds under any dependence.

    Raises:
        ValueError: if the interactions were not all estimated at one level.
    """
    return _standing(interactions, holm_p_values)


def benjamini_hochberg(interactions: Sequence[Interaction]) -> list[Verdict]:
    """Return the verdicts that remain when the expected *share* of false ones among them is held at 1 - level.

    For a screen of many quartets, whose finds are measured again: Holm asks for more the more quartets there are, this
    does not. Hypotheses and p-values are those of `holm`, and so is what an adjusted verdict can be. Source: Benjamini
    and Hochberg (1995), Controlling the false discovery rate, J. R. Statist. Soc. B 57:289. Proven for independent
    quartets and for positively dependent ones (Benjamini and Yekutieli 2001, Ann. Statist. 29:1165).

    Raises:
        ValueError: if the interactions were not all estimated at one level.
    """
    return _standing(interactions, bh_p_values)


def standing_verdict(verdict: str, p_adjusted: float, level: float) -> Verdict:
    """Return the verdict that remains at its adjusted p-value: itself, or `inconclusive`."""
    return Verdict(verdict) if is_decided(verdict) and p_adjusted < 1 - level else Verdict.INCONCLUSIVE


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order: max over i <= j of (K - i) * p_(i), at most 1."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bh_p_values(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values, in the given order: min over i >= j of K / i * p_(i)."""
    from scipy.stats import false_discovery_control  # here: it takes a second to import

    return [float(p) for p in false_discovery_control(p_values, method="bh")] if p_values else []


@dataclass(frozen=True)
class Correction:
    """One way of taking the verdicts of a sweep together."""

    name: str  # as `protocol.family` says it
    title: str  # in words
    tag: str  # of a row's verdict after it
    metric: str  # of a row's p-value after it
    p_values: Callable[[Sequence[float]], list[float]]  # adjusted, in the given order


HOLM = Correction("holm", "Holm", "verdict_holm", "interaction/p_holm", holm_p_values)
BENJAMINI_HOCHBERG = Correction("bh", "Benjamini-Hochberg", "verdict_bh", "interaction/p_bh", bh_p_values)
CORRECTIONS: Mapping[str, Correction] = {each.name: each for each in (HOLM, BENJAMINI_HOCHBERG)}


def correction_of(names: Iterable[object]) -> Correction:
    """Return the correction that quartets were measured for, one name each.

    Holm, which promises more, where they name none (older rows) or differ (a study of several sweeps).
    """
    found = set(names)
    return CORRECTIONS.get(str(found.pop()), HOLM) if len(found) == 1 else HOLM


def _standing(interactions: Sequence[Interaction], adjusted: Callable[[Sequence[float]], list[float]]) -> list[Verdict]:
    alphas = {1 - interaction.level for interaction in interactions}
    if len(alphas) > 1:
        raise ValueError(f"all interactions must have the same level, got {sorted(1 - a for a in alphas)}")
    return [
        standing_verdict(interaction.verdict, p, interaction.level)
        for interaction, p in zip(
            interactions, adjusted([interaction.p_value for interaction in interactions]), strict=True
        )
    ]
