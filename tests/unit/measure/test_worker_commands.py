"""What a worker does when told, and how it ends when it is not as planned: real processes, one cell each."""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import psutil
import pytest

from harness.config import DataConfig, ModelConfig
from harness.measure import coordinator, worker
from harness.measure.cell import Turn
from harness.measure.coordinator import workers
from harness.measure.worker import CellCommands, timed_batches
from harness.networks.data.labelled import labelled
from harness.networks.inputs import image_inputs
from harness.system.errors import CellError


@pytest.fixture(scope="module")
def spec(prepared):
    return prepared("reference=engine")[1]["baseline"]


class Showing(CellCommands):
    """A cell that shows what its next batch will read."""

    def shown(self, _) -> np.ndarray:
        return np.array(self._runner.input_buffers["input"])


def test_on_labelled_images_a_visit_has_the_batch_that_its_block_says_and_begins_anew_after_the_last(spec, cache):
    model = ModelConfig(name="densenet_tiny", image_size=64, num_classes=10)
    images = labelled(model, DataConfig(name="digits"), cache)
    spec = replace(spec, labelled=images)
    count = len(timed_batches(spec, image_inputs(64).specs))
    with workers([spec], Showing) as handles:
        cell = handles["baseline"]
        cell.ask("load")
        seen = []
        for block in range(count + 1):
            cell.ask("slice", Turn(("wall",), 0, 0.0, block))
            cell.ask("slice", Turn(("wall",), 0, 0.0, block))  # a cell of several quartets is visited again
            seen.append(cell.ask("shown"))
    expected = [batch["input"] for batch in timed_batches(spec, image_inputs(64).specs)]
    assert count > 2
    np.testing.assert_array_equal(seen, [*expected, expected[0]])


def test_a_load_for_the_energy_counter_runs_in_the_worker_for_as_long_as_told(spec):
    with workers([spec]) as handles:
        cell = handles["baseline"]
        cell.ask("load")
        found = cell.ask("sustain", 0.2)
    assert found.seconds >= 0.2
    assert found.iterations > 0
    assert found.iterations % 8 == 0


@pytest.mark.spawned
def test_a_worker_whose_coordinator_let_go_of_it_ends_by_itself_and_in_peace(spec):
    with workers([spec]) as handles:
        cell = handles["baseline"]
        cell.ask("load")
        process = cell._process
        cell._connection.close()
        process.join(20)
        assert process.exitcode == 0


class Failing(CellCommands):
    """A cell whose engine ends the process, raises anything, or closes what is not its own: the coordinator's pipe."""

    def load(self, status: int) -> None:
        sys.stdout.flush()
        os._exit(status)

    def warm_up(self, text: str) -> None:
        raise RuntimeError(text)

    def verify(self, _) -> None:
        for number in (int(name) for name in os.listdir("/proc/self/fd")):
            with suppress(OSError):  # the listing's own is closed by now
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.close(number)
        time.sleep(60)


def test_a_worker_that_ended_with_a_status_of_its_own_is_told_with_it(spec, children):
    with workers([spec], Failing) as handles, pytest.raises(CellError) as failure:
        handles["baseline"].ask("load", 3)
    assert str(failure.value) == "baseline: worker ended with status 3 during 'load'"
    assert children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_only_closed_its_pipe_is_told_as_that_and_is_ended_all_the_same(spec, children, monkeypatch):
    monkeypatch.setattr(coordinator, "STOP_TIMEOUT_S", 0.2)
    with workers([spec], Failing) as handles:
        cell = handles["baseline"]
        with pytest.raises(CellError) as failure:
            cell.ask("verify")
        assert psutil.pid_exists(cell.pid)
    assert str(failure.value) == "baseline: closed its pipe during 'verify'"
    assert children() == []


def test_an_error_of_whatever_text_is_one_line_and_ends_no_worker(spec):
    with workers([spec], Failing) as handles:
        for text, line in (("", "no message"), (" \n\n", "no message"), ("\nfirst\nsecond", "first")):
            with pytest.raises(CellError) as failure:
                handles["baseline"].ask("warm_up", text)
            assert str(failure.value) == f"baseline: RuntimeError: {line}"


def test_a_command_to_a_worker_that_is_gone_is_told_by_how_it_ended(spec):
    with workers([spec], Failing) as handles:
        cell = handles["baseline"]
        cell.send("load", 7)
        cell._process.join(20)
        with pytest.raises(CellError, match=r"^baseline: worker ended with status 7 during 'slice'$"):
            cell.send("slice")


@pytest.mark.parametrize(("threads", "set_to"), [(3, "3"), (0, None)])
def test_thread_pools_sleep_when_idle_and_have_as_many_threads_as_told_or_as_the_engine_chooses(threads, set_to):
    with patch.dict(os.environ, clear=True):
        worker._quiet_thread_pools(threads)
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert (os.environ["GOMP_SPINCOUNT"], os.environ["KMP_BLOCKTIME"]) == ("0", "0")
        assert (os.environ.get("OMP_NUM_THREADS"), os.environ.get("MKL_NUM_THREADS")) == (set_to, set_to)
