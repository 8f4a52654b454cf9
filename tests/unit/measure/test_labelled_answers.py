"""Who is asked for answers on labelled images: each cell itself, and for each network once the fp32 eager one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.config import ProtocolConfig
from harness.measure import predictions
from harness.measure.cell import CellAnswers
from harness.measure.predictions import IMAGES_PER_TIMEOUT, MOST_CACHED, answers_of
from harness.measure.progress import Silent

SETTINGS = ProtocolConfig(worker_timeout_s=10.0)


@pytest.fixture(autouse=True)
def _nothing_is_known_yet(monkeypatch):
    monkeypatch.setattr(predictions, "_eager_answers", {})


class Told:
    """Looks like a handle on a cell; answers with its own name and the command, and keeps what it was asked."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.asked: list[tuple[str, float]] = []

    def ask(self, command: str, argument: object, timeout_s: float) -> str:
        self.asked.append((command, timeout_s))
        return f"{self.role} {command}"


def cell(role: str, recipe: str, batch_size: int = 8, images: int | None = 359):
    data = None if images is None else SimpleNamespace(test=SimpleNamespace(count=images, digest="digits"))
    return SimpleNamespace(name=role, recipe=recipe, batch_size=batch_size, device="cpu", labelled=data)


def asked(*cells) -> tuple[dict[str, CellAnswers | None], dict[str, list[tuple[str, float]]]]:
    handles = {one.name: Told(one.name) for one in cells}
    found = {one.name: answers_of(one, handles[one.name], SETTINGS, Silent()) for one in cells}
    return found, {role: handle.asked for role, handle in handles.items()}


def test_synthetic_images_have_no_answers_and_nobody_is_asked():
    found, commands = asked(cell("baseline", "A", images=None))
    assert found == {"baseline": None}
    assert commands == {"baseline": []}


def test_every_cell_answers_itself_and_cells_of_one_network_share_its_eager_answers():
    found, commands = asked(cell("baseline", "A"), cell("arch", "B"), cell("hw", "A"), cell("combined", "B"))
    assert {role: one.cell for role, one in found.items()} == {role: f"{role} predict" for role in commands}
    assert {role: one.eager for role, one in found.items()} == {
        "baseline": "baseline predict_eager",
        "hw": "baseline predict_eager",
        "arch": "arch predict_eager",
        "combined": "arch predict_eager",
    }
    assert [[name for name, _ in commands[role]] for role in ("arch", "hw")] == [
        ["predict", "predict_eager"],
        ["predict"],
    ]


def test_the_next_quartet_of_a_sweep_finds_them_but_another_batch_size_has_its_own():
    asked(cell("baseline", "A"))
    found, commands = asked(cell("hw", "A"))
    assert found["hw"].eager == "baseline predict_eager"
    assert len(commands["hw"]) == 1
    found, commands = asked(cell("hw", "A", batch_size=16))
    assert found["hw"].eager == "hw predict_eager"  # a share of each batch exits, so the answers may differ


def test_each_full_thousand_of_images_gives_a_worker_its_time_once_more():
    for images, times in ((1, 1), (IMAGES_PER_TIMEOUT - 1, 1), (IMAGES_PER_TIMEOUT, 2), (50_000, 51)):
        _, commands = asked(cell("hw", f"network for {images}", images=images))
        assert commands["hw"] == [("predict", 10.0 * times), ("predict_eager", 10.0 * times)]


def test_only_the_latest_networks_answers_are_kept():
    for number in range(MOST_CACHED + 1):
        asked(cell("hw", f"network {number}"))
    assert len(predictions._eager_answers) == MOST_CACHED
    _, commands = asked(cell("hw", f"network {MOST_CACHED}"))
    assert [name for name, _ in commands["hw"]] == ["predict"]
    _, commands = asked(cell("hw", "network 0"))
    assert [name for name, _ in commands["hw"]] == ["predict", "predict_eager"]
