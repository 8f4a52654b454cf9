"""Everything a report says of one study, computed once for the terminal, the page and MLflow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.report.choose import Choice, Limits, choose
from harness.report.grid_model import GridModel, grid_models, why_no_model
from harness.report.matrix import Matrix, matrices
from harness.report.quartets import QuartetRow, quartets
from harness.report.study import Study


@dataclass(frozen=True)
class Findings:
    """The analysis of a study."""

    name: str
    quartets: tuple[QuartetRow, ...]
    matrices: tuple[Matrix, ...]
    models: tuple[GridModel, ...]
    no_model: str  # why there is none; "" where there is one
    choice: Choice

    @property
    def measured(self) -> tuple[QuartetRow, ...]:
        """The quartets that have a factor."""
        return tuple(one for one in self.quartets if one.factor is not None)

    @property
    def candidates_are_real(self) -> bool:
        """Whether there is anything to choose between: some quartet that is no control."""
        return any(one.cells and not one.is_control for one in self.quartets)

    @property
    def failed(self) -> tuple[QuartetRow, ...]:
        """The quartets that did not finish."""
        return tuple(one for one in self.quartets if one.status != "FINISHED")

    def verdicts(self, controls: bool) -> Counter[str]:
        """Return how many quartets (or A/A controls) have which verdict beside the others."""
        return Counter(one.stands for one in self.measured if one.is_control == controls)


def find(study: Study, limits: Limits) -> Findings:
    """Analyse a study."""
    rows = quartets(study.frame)
    models = grid_models(rows)
    return Findings(
        name=study.name,
        quartets=rows,
        matrices=matrices(rows),
        models=models,
        no_model="" if models else why_no_model(rows),
        choice=choose(rows, limits),
    )
