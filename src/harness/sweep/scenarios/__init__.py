"""Scenarios by name: the one place that knows which there are. Everywhere else a scenario is an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config import HarnessConfig, check_ranges, one_of, packages

if TYPE_CHECKING:
    from harness.sweep.scenarios.scenario import Scenario


def names() -> tuple[str, ...]:
    """Return the names of all scenarios, other packages' last."""
    return packages.names(packages.SCENARIOS)


def register_choices() -> None:
    """Tell Hydra of the scenarios of other packages."""
    from hydra.core.config_store import ConfigStore

    for name in packages.added(packages.SCENARIOS):
        ConfigStore.instance().store(name=name, node={"name": name}, group="scenario", package="scenario")


def scenario_of(config: HarnessConfig) -> Scenario:
    """Return the scenario that a config names; raise UserError for an unknown one."""
    check_ranges("scenario", config.scenario, {"name": one_of(*names())})
    kind: type[Scenario] = packages.load(packages.SCENARIOS, config.scenario.name)
    return kind()
