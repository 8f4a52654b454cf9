"""One sentence a pair: what the measured interaction means for whoever has to choose a combination."""

from __future__ import annotations

from harness.measure.design import QuartetPlan
from harness.results.analyse import Analysis


def strategy(plan: QuartetPlan, analysis: Analysis) -> str:
    """Return what to do with this pair, from its gains and verdict; every number in it is logged beside it."""
    found = analysis.interactions[analysis.primary]
    gains = found.gains
    arch, hw = "+".join(plan.arch), "+".join(plan.hw)
    singles = {arch: gains.arch, hw: gains.hw}
    better = max(singles, key=lambda name: singles[name])
    numbers = (
        f"Measured {gains.combined:.2f}x together against {gains.expected:.2f}x expected "
        f"({arch} {gains.arch:.2f}x, {hw} {gains.hw:.2f}x; "
        f"factor {found.factor:.3f} [{found.low:.3f}, {found.high:.3f}])."
    )
    verdict = str(found.verdict)
    if arch == hw == "identity":
        return f"A/A control: nothing was changed, so every gain and the factor should be 1. {numbers}"
    if gains.combined <= 1 and verdict != "inconclusive":
        advice = f"Use neither together: the pair is no faster than the baseline ({verdict})."
    elif gains.combined <= singles[better] and verdict != "inconclusive":
        advice = f"Use {better} alone: adding the other one makes it no faster ({verdict})."
    elif verdict == "amplify":
        advice = f"Use {arch} and {hw} together: each makes the other worth more."
    elif verdict == "conflict":
        advice = (
            f"Use both only if what {arch if better == hw else hw} adds is worth its cost: they share a bottleneck."
        )
    elif verdict == "independent":
        advice = f"Choose {arch} and {hw} each on its own merit: their gains multiply."
    else:
        advice = f"Measure longer before deciding ({found.reason})."
    return f"{advice} {numbers}"
