"""Scenarios by name: the one place that knows which there are. Everywhere else a scenario is an object."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from harness.config import HarnessConfig, check_ranges, one_of, packages

if TYPE_CHECKING:
    from harness.sweep.scenarios.scenario import Scenario

# name -> "module:class"; imported on first use. Each has a file in conf/scenario
_SCENARIOS = {
    "fixed": "harness.sweep.scenarios.fixed:Fixed",
    "single_stream": "harness.sweep.scenarios.under_load:SingleStream",
    "offline": "harness.sweep.scenarios.under_load:Offline",
    "server": "harness.sweep.scenarios.under_load:Server",
}


def names() -> tuple[str, ...]:
    """Return the names of all scenarios, other packages' last."""
    return (*_SCENARIOS, *packages.added(packages.SCENARIOS, _SCENARIOS))


def register_choices() -> None:
    """Tell Hydra of the scenarios of other packages."""
    from hydra.core.config_store import ConfigStore

    for name in packages.added(packages.SCENARIOS, _SCENARIOS):
        ConfigStore.instance().store(name=name, node={"name": name}, group="scenario", package="scenario")


def scenario_of(config: HarnessConfig) -> Scenario:
    """Return the scenario that a config names; raise UserError for an unknown one."""
    check_ranges("scenario", config.scenario, {"name": one_of(*names())})
    name = config.scenario.name
    if name in _SCENARIOS:
        module, _, attribute = _SCENARIOS[name].partition(":")
        kind: type[Scenario] = getattr(import_module(module), attribute)
    else:
        kind = packages.load(packages.SCENARIOS, name)
    return kind()
