"""Everything a report says of one study, computed once for the terminal, the page and MLflow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.choose import Choice, Limits, choose
from harness.report.quartets import QuartetRow, Setting, correction_among, quartets, setting_label
from harness.report.study import Study
from harness.results.headline import Headline, headline_of_study
from harness.stats.factorial import (
    HIGHEST_ORDER,
    Effect,
    FactorialDesign,
    LogLinear,
    MeasuredQuartet,
    Prediction,
    TechniqueSet,
    complete_designs,
    effects,
    measured_gains,
    predict,
    subsets,
)
from harness.stats.multiplicity import Correction
from harness.stats.roles import ROLES


@dataclass(frozen=True)
class Findings:
    """The analysis of a study."""

    name: str
    quartets: tuple[QuartetRow, ...]
    correction: Correction  # of the verdicts, over all quartets
    matrices: tuple[Matrix, ...]
    models: tuple[GridModel, ...]
    no_model: str  # why there is none; "" where there is one
    choice: Choice
    headline: Headline | None  # of the study; None: no quartet of two real techniques has its gains

    @property
    def measured(self) -> tuple[QuartetRow, ...]:
        """The quartets that have a factor."""
        return tuple(quartet for quartet in self.quartets if quartet.factor is not None)

    @property
    def candidates_are_real(self) -> bool:
        """Whether there is anything to choose between: at least one quartet that is not a control."""
        return any(quartet.cells and not quartet.is_control for quartet in self.quartets)

    @property
    def failed(self) -> tuple[QuartetRow, ...]:
        """The quartets that did not finish."""
        return tuple(quartet for quartet in self.quartets if quartet.status != "FINISHED")

    def verdicts(self, controls: bool) -> Counter[str]:
        """Return how many quartets (or A/A controls) have which verdict after the correction."""
        return Counter(quartet.verdict_adjusted for quartet in self.measured if quartet.is_control == controls)


def find(study: Study, limits: Limits) -> Findings:
    """Analyse a study."""
    rows = quartets(study.frame)
    models = grid_models(rows)
    return Findings(
        name=study.name,
        quartets=rows,
        correction=correction_among([quartet.row for quartet in rows]),
        matrices=matrices(rows),
        models=models,
        no_model="" if models else why_no_model(rows),
        choice=choose(rows, limits),
        headline=headline_of_study(study.frame.to_dict("records")),
    )


@dataclass(frozen=True)
class Matrix:
    """One setting's grid."""

    setting: Setting
    label: str
    archs: tuple[str, ...]
    hws: tuple[str, ...]
    places: Mapping[tuple[str, str], tuple[QuartetRow, ...]]  # several where a quartet was repeated

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """The places that nobody ran, or that have no factor because their quartets failed."""
        every = ((arch, hw) for arch in self.archs for hw in self.hws)
        return tuple(place for place in every if not any(quartet.factor for quartet in self.places.get(place, ())))

    def log_factor(self, place: tuple[str, str]) -> float | None:
        """Return the mean ln(factor) of a place."""
        found = [math.log(quartet.factor.value) for quartet in self.places.get(place, ()) if quartet.factor]
        return sum(found) / len(found) if found else None


def matrices(quartets: Sequence[QuartetRow]) -> tuple[Matrix, ...]:
    """Return one matrix a setting, in the study's order; gains without a factor (arch=none, hw=none) are in none."""
    pairs = [quartet for quartet in quartets if quartet.arch and quartet.hw]
    settings = list(dict.fromkeys(quartet.setting for quartet in pairs))
    out = []
    for setting in settings:
        members = [quartet for quartet in pairs if quartet.setting == setting]
        places: dict[tuple[str, str], tuple[QuartetRow, ...]] = {}
        for quartet in members:
            place = (quartet.arch_label, quartet.hw_label)
            places[place] = (*places.get(place, ()), quartet)
        out.append(
            Matrix(
                setting=setting,
                label=setting_label(setting, settings),
                archs=tuple(dict.fromkeys(quartet.arch_label for quartet in members)),
                hws=tuple(dict.fromkeys(quartet.hw_label for quartet in members)),
                places=places,
            )
        )
    return tuple(out)


MOST_PREDICTED = 6  # techniques; all their combinations are predicted


@dataclass(frozen=True)
class GridModel:
    """What the quartets of one setting say together."""

    setting: Setting
    label: str
    level: float
    quartets: int
    effects: tuple[Effect, ...]
    inseparable: tuple[tuple[str, ...], ...]
    explained: tuple[float, ...]  # share of variation by single techniques; with pairs; with triples: cumulative
    designs: tuple[FactorialDesign, ...]
    predictions: tuple[Prediction, ...]
    not_run: tuple[tuple[str, ...], ...]  # combinations of the techniques that nobody measured
    too_many: bool  # more techniques than are worth listing all combinations of


def grid_models(quartets: Sequence[QuartetRow]) -> tuple[GridModel, ...]:
    """Return a model for each setting with `reference=engine` that has two measured quartets or more.

    With `reference=eager` an hw gain holds the change of engine, so a technique's effect can't be separated from it.
    Controls and quartets without a factor are left out.
    """
    usable = [quartet for quartet in quartets if _is_usable(quartet)]
    settings = list(dict.fromkeys(quartet.setting for quartet in usable))
    out = []
    for setting in settings:
        members = [quartet for quartet in usable if quartet.setting == setting]
        if len(members) > 1:
            out.append(_model(setting, setting_label(setting, settings), members))
    return tuple(out)


def why_no_model(quartets: Sequence[QuartetRow]) -> str:
    """Return why a study has no model, for a reader who expects one."""
    pairs = [quartet for quartet in quartets if quartet.factor and not quartet.is_control]
    if not pairs:
        return "No factorial model: no quartet has an interaction factor of two real techniques."
    if all(dict(quartet.setting).get("reference") != "engine" for quartet in pairs):
        return (
            "No factorial model: with reference=eager every hw gain contains the change of engine. "
            "reference=engine measures the techniques alone."
        )
    return "No factorial model: it takes two quartets of one setting (model, engine, batch size ...)."


def _is_usable(quartet: QuartetRow) -> bool:
    whole = quartet.factor is not None and all(role in quartet.cells for role in ROLES)
    known = quartet.factor is not None and quartet.factor.low > 0 and math.isfinite(quartet.factor.high)
    return whole and known and not quartet.is_control and dict(quartet.setting).get("reference") == "engine"


def _model(setting: Setting, label: str, members: Sequence[QuartetRow]) -> GridModel:
    level = float(members[0].row.get("protocol.level") or 0.95)
    measured = [_measured(quartet) for quartet in members]
    whole = LogLinear(measured, level)
    found, inseparable = effects(whole)
    techniques = sorted({name for quartet in measured for cell in quartet.cells for name in cell})
    ran = measured_gains(measured)
    few = len(techniques) <= MOST_PREDICTED
    possible = [cell for cell in subsets(frozenset(techniques)) if _is_possible(cell)] if few else list(ran)
    stacks = [cell for cell in possible if len(cell) > 1]
    return GridModel(
        setting=setting,
        label=label,
        level=level,
        quartets=len(members),
        effects=found,
        inseparable=inseparable,
        explained=_explained(measured, whole, level),
        designs=complete_designs(measured),
        predictions=predict(measured, stacks, level),
        not_run=tuple(tuple(sorted(cell)) for cell in possible if cell not in ran),
        too_many=not few,
    )


def _explained(measured: Sequence[MeasuredQuartet], whole: LogLinear, level: float) -> tuple[float, ...]:
    """Return the share of variation that terms of up to one, two, three techniques explain."""
    highest = max(len(term) for term in whole.terms)
    lower = [LogLinear(measured, level, order).explained for order in range(1, highest)]
    return (*lower, *[whole.explained] * (HIGHEST_ORDER - len(lower)))


def _measured(quartet: QuartetRow) -> MeasuredQuartet:
    assert quartet.factor is not None
    return MeasuredQuartet(
        cells=tuple(quartet.cells[role].techniques for role in ROLES),
        log_throughput=tuple(math.log(quartet.cells[role].throughput_ips) for role in ROLES),
        half_width=math.log(quartet.factor.high / quartet.factor.low) / 2,
    )


def _is_possible(cell: TechniqueSet) -> bool:
    """Whether no technique is in it twice with different options."""
    bare = [name.partition("(")[0] for name in cell]
    return len(set(bare)) == len(bare)
