"""Cells come up several at once: so many that each has its cores, and in what order they answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.config import ProtocolConfig
from harness.measure import bring_up as module
from harness.measure.progress import Silent
from harness.measure.verify import Fidelity
from harness.system.errors import CellError


class Told:
    """A worker that notes when it is told to load and when it is waited for."""

    def __init__(self, name, log):
        self._name, self._log = name, log

    def send(self, command):
        self._log.append((command, self._name))

    def receive(self, command, timeout_s):
        self._log.append(("loaded", self._name))
        if self._name == "cell 1":
            raise CellError("cell 1: broke")
        return self._name

    def ask(self, command, argument, timeout_s):
        self._log.append((command, self._name))


@pytest.mark.parametrize(("cores", "at_once"), [(2, 4), (8, 4), (12, 6)])
def test_half_as_many_cells_load_at_once_as_there_are_cores_and_four_at_least(monkeypatch, cores, at_once):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(module, "compare", lambda *_: Fidelity(0.0, 0.0, 1.0, 1.0))
    log, failed = [], []
    artifact = SimpleNamespace(plan=SimpleNamespace(arithmetic=None))
    cells = [
        SimpleNamespace(name=f"cell {number}", expected=SimpleNamespace(inputs=None), artifacts=(artifact,))
        for number in range(8)
    ]
    handles = {cell.name: Told(cell.name, log) for cell in cells}
    settings = ProtocolConfig()
    loaded, compared = module.bring_up(cells, handles, settings, Silent(), lambda name, error: failed.append(name))
    commands = [command for command, _ in log]
    assert commands.index("loaded") == at_once
    assert commands[: 3 * at_once - 1] == ["load"] * at_once + ["loaded"] * at_once + ["verify"] * (at_once - 1)
    assert failed == ["cell 1"] and set(loaded) == set(compared) == {cell.name for cell in cells} - {"cell 1"}
