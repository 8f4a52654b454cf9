"""The whole answer to one question: which cells of which quartet, their plans, and the checks of the plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.commands.capacity.curves import BASELINE, Curves, SustainedRate, sustained
from harness.commands.capacity.fleet_check import FleetCheck, check_plan
from harness.commands.capacity.plan import Demand, FleetPlan, plan_fleet
from harness.system.errors import UserError


@dataclass(frozen=True)
class Question:
    """What is asked of a study. None: the study's own bound, no price, the best cell, the best quartet, no check."""

    demand: Demand
    slo_ms: float | None = None
    headroom: float = 0.2
    price_per_hour: float | None = None
    candidate: str | None = None
    quartet: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class FleetAnswer:
    """Plans by cell, baseline first, and as many checks (none where no simulation was asked for).

    `baseline_missing` is the reason why there is no plan of the baseline, None where there is one.
    """

    question: Question
    curves: Curves
    slo_ms: float
    plans: tuple[FleetPlan, ...]
    checks: tuple[FleetCheck, ...]
    baseline_missing: str | None


def answer(studies: Sequence[Curves], question: Question) -> FleetAnswer:
    """Plan baseline and candidate of the chosen quartet, and check both plans.

    Raises:
        UserError: there is no such quartet or cell, or what it was measured for does not cover the question.

    """
    curves, candidate = choose(studies, question)
    found, missing = [candidate], None
    if candidate.cell != BASELINE:
        try:
            found.insert(0, _sustained(curves, BASELINE, question))
        except UserError as error:
            missing = str(error)
    plans = tuple(
        plan_fleet(question.demand, sustained, question.headroom, question.price_per_hour) for sustained in found
    )
    split = question.split
    checks = tuple(check_plan(curves, plan, question.demand, split) for plan in plans) if split else ()
    return FleetAnswer(question, curves, candidate.slo_ms, plans, checks, missing)


def choose(studies: Sequence[Curves], question: Question) -> tuple[Curves, SustainedRate]:
    """Return the quartet and what its candidate sustains.

    Unless named, the candidate is the cell that sustains most within the bound, of all quartets; the baseline only
    where nothing else was measured.

    Raises:
        UserError: there is no such quartet or cell, or none of the candidates sustains any rate within the bound.

    """
    quartets = [curves for curves in studies if question.quartet in (None, curves.name)]
    if not quartets:
        raise UserError(f"no quartet {question.quartet!r}; there are: {', '.join(curves.name for curves in studies)}")
    pairs = [(curves, name) for curves in quartets for name in curves.cells]
    if question.candidate is not None:
        candidates = [(curves, name) for curves, name in pairs if name == question.candidate]
    else:
        candidates = [(curves, name) for curves, name in pairs if name != BASELINE] or pairs
    if not candidates:
        there = ", ".join(dict.fromkeys(name for _, name in pairs))
        raise UserError(f"no cell {question.candidate!r} was measured under load; there are: {there}")
    able, refusals = [], []
    for curves, name in candidates:
        try:
            able.append((curves, _sustained(curves, name, question)))
        except UserError as error:
            refusals.append(error)
    if not able:
        raise refusals[0]
    return max(able, key=lambda pair: pair[1].rate_per_s)


def _sustained(curves: Curves, name: str, question: Question) -> SustainedRate:
    if name not in curves.cells:
        raise UserError(f"cell {name} was not measured under load in {curves.name}")
    return sustained(curves.cells[name], curves.slo_ms, question.slo_ms or curves.slo_ms)
