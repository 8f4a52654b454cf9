"""What a scenario is: how the cells of a quartet are given their work, and what is made of that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.config import HarnessConfig
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.progress import Progress
from harness.system.errors import CellError

if TYPE_CHECKING:
    from harness.results.analyse import Analysis
    from harness.results.row import RowDraft


@dataclass(frozen=True)
class TimingEstimate:
    """How long timing takes, without building and bringing up."""

    least_s: float
    most_s: float | None  # None: it has no limit
    why: str  # what both are made of


class Scenario(ABC):
    """One scenario; it has no state. A measurement has at least what `results.record.Measured` names."""

    rooms: ClassVar[tuple[str, ...]] = ()  # modules whose code decides its numbers, beside those of every quartet

    has_requests: ClassVar[bool] = True  # and so reads the options `scenario.*`
    replicates_builds: ClassVar[bool] = False  # whether it can measure several builds of an engine
    side_by_side: ClassVar[bool] = False  # whether several quartets can be measured on the same visits

    def check(self, config: HarnessConfig) -> None:  # noqa: B027, most need no more than the ranges of the config
        """Raise UserError for options that contradict each other or the scenario."""

    def params(self, config: HarnessConfig) -> dict[str, Any]:
        """Return the params of a row that only this scenario has."""
        return {}

    def builds(self, plan: QuartetPlan) -> list[tuple[QuartetPlan, int]]:
        """Return what has to be built to measure a quartet: its cells in some form, and the number of the build."""
        return [(plan, 0)]

    def estimated(self, plans: Sequence[QuartetPlan]) -> TimingEstimate | None:
        """Return how long quartets that share all but their techniques take; None where that can't be said."""
        return None

    @abstractmethod
    def measure(self, plan: QuartetPlan, built: Sequence[Mapping[str, Cell]], progress: Progress) -> Any:
        """Measure a quartet's cells, which are built, by role; raise CellError where one can't be trusted.

        `built` holds what `builds` requested, in its order.
        """

    def measure_all(
        self,
        plans: Sequence[QuartetPlan],
        built: Sequence[Sequence[Mapping[str, Cell]]],
        progress: Progress,
        ended: Callable[[int, Any], None],
        family: int,
    ) -> None:
        """Measure quartets that share all but their techniques; tell each one's end: a measurement, or its CellError.

        `family` is how many quartets the whole sweep has.
        """
        for number, (plan, quartets) in enumerate(zip(plans, built, strict=True)):
            try:
                found = self.measure(plan, quartets, progress)
            except CellError as error:
                found = error
            ended(number, found)

    def measured_cells(self, built: Sequence[Mapping[str, Cell]], measurement: Any) -> Mapping[str, Cell]:
        """Return by role which of the built cells the row is of."""
        return built[0]

    @abstractmethod
    def analyse(self, plan: QuartetPlan, measurement: Any) -> Analysis:
        """Return the numbers of a measurement."""

    @abstractmethod
    def metrics(
        self, row: RowDraft, plan: QuartetPlan, cells: Mapping[str, Cell], measurement: Any, analysis: Analysis
    ) -> None:
        """Add to a row what only this scenario measures: metrics, tags and files.

        What every scenario has is there already: costs, fidelity, the metrics of the analysis, the verdict.
        """


def sources(scenario: Scenario) -> tuple[str, ...]:
    """Return the modules whose code decides a scenario's numbers: its own, those of its bases, and its rooms."""
    kinds = [kind for kind in type(scenario).__mro__ if issubclass(kind, Scenario) and kind is not Scenario]
    return (*dict.fromkeys(kind.__module__ for kind in kinds), *scenario.rooms)
