"""A sweep on several devices of this host, `engine.devices`: a process for each, its place, measures a share.

All places build their shares first, while nothing is timed, and then measure without waiting for each other. A place
whose device dies, or whose process does, loses what it has not measured to the others. A quartet is measured whole in
one place, so that no factor mixes devices.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection as channels
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from harness.measure.fitness import device_trouble
from harness.measure.lock import SIMULATED, VISIBLE, building, device_id
from harness.measure.stopping import Standing
from harness.sweep.job import DesignRun, DeviceLost, PlannedDesign, PlannedJob, designs_of, fail_all, quartet_key
from harness.system.counts import counted
from harness.system.machine import gpu, usable_cores
from harness.system.processes import die_with_parent, no_interrupts
from harness.tracking import Store
from harness.tracking.outbox import Outbox, RowLost, deliver
from harness.tracking.runs import take_back

if TYPE_CHECKING:
    from harness.sweep.terminal import Lane, TerminalProgress

Say = Callable[[str], None]
_END_S = 5.0
_LOOK_S = 0.5


def shares(jobs: Sequence[PlannedJob], family: int, places: int) -> list[list[PlannedDesign]]:
    """Return what each place measures: equally many quartets, in the designs' order, so that neighbours share cells."""
    designs = designs_of(jobs, family)
    whole = sum(len(design.jobs) for design in designs)
    found: list[list[PlannedDesign]] = [[] for _ in range(places)]
    before = 0
    for design in designs:
        ends = [round(whole * (place + 1) / places) for place in range(places)]
        for place, end in enumerate(ends):
            start = ends[place - 1] if place else 0
            part = design.jobs[max(0, start - before) : max(0, end - before)]
            if part:
                found[place].append(PlannedDesign(part, family))
        before += len(design.jobs)
    return found


@dataclass
class _Place:
    """A device's process, seen from the sweep's."""

    name: str  # of its device, for people
    process: BaseProcess
    channel: Connection
    lane: Lane
    device: str = ""  # as its rows name it, a GPU's UUID; "" until it has answered
    todo: dict[int, list[PlannedJob]] = field(default_factory=dict)  # what has not ended, by the design's number

    @property
    def open(self) -> int:
        """How many quartets it still has to measure."""
        return sum(map(len, self.todo.values()))

    def tell(self, *command: Any) -> None:
        """Give a command; that its process has ended is noticed where its answers are read."""
        with suppress(OSError):
            self.channel.send(command)


class Spread:
    """The places of one sweep, from their first answer to the end of the last quartet."""

    def __init__(
        self, sweep_id: str, outbox: Outbox, progress: TerminalProgress, say: Say, after: Callable[[], None]
    ) -> None:
        self._sweep_id, self._outbox, self._progress = sweep_id, outbox, progress
        self._say, self._after = say, after  # a line for people; what is to be done when a quartet has ended
        self._places: list[_Place] = []
        self._designs: list[PlannedDesign] = []
        self._preparing: set[int] | None = set()  # designs, as long as nothing is timed; None from then on

    def measure(self, jobs: Sequence[PlannedJob], family: int, devices: Sequence[str]) -> None:
        """Measure all quartets; those that no place is left for are FAILED with the reason.

        Raises:
            RowLost: results can't be stored any more.

        """
        device = jobs[0].plan.device
        with ExitStack() as ends:
            for number, name in enumerate(devices):
                self._places.append(self._start(number, name, device, len(devices), ends))
            self._progress.stage(f"look at {counted(len(devices), 'device')}")
            self._until(lambda: all(place.device for place in self._places))
            with building(lambda: self._progress.stage("wait until nothing is timed")):
                count = max(1, len(self._places))
                for number, share in enumerate(shares(jobs, family, count)):
                    place = self._places[number] if self._places else None
                    for design in share:
                        self._give(design, place)
                self._progress.begin("")
                for place in self._places:
                    place.lane.begin(f"prepare {counted(place.open, 'quartet')}")
                self._until(lambda: not self._preparing)
            self._preparing = None
            for place in self._places:
                for number in place.todo:
                    place.tell("measure", number)
            self._until(lambda: not any(place.open for place in self._places))

    def _start(self, number: int, name: str, device: str, places: int, ends: ExitStack) -> _Place:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_main, args=(theirs, name, number, device, places, os.getpid()), name=f"harness-device-{number}"
        )
        with no_interrupts():
            process.start()
        theirs.close()
        place = _Place(f"GPU {number}", process, ours, self._progress.lane(f"GPU {number}"))
        ends.callback(_end, place)
        return place

    def _until(self, done: Callable[[], bool]) -> None:
        """Take what the places say until it is enough, or none is left."""
        while self._places and not done():
            for ready in channels.wait([place.channel for place in self._places], timeout=_LOOK_S):
                place = next((place for place in self._places if place.channel is ready), None)
                if place is not None:
                    self._take(place)

    def _take(self, place: _Place) -> None:
        try:
            word, *values = place.channel.recv()
        except (EOFError, OSError):
            place.process.join(_END_S)
            self._lose(place, f"its process ended with status {place.process.exitcode}")
            return
        if word in ("stage", "block"):
            getattr(place.lane, word)(*values)
        elif word == "here":
            (place.device,) = values
        elif word == "lost":
            self._lose(place, values[0])
        elif word == "full":
            raise RowLost(values[0])
        elif word == "prepared" and self._preparing is not None:
            self._preparing.discard(values[0])
            if self._preparing.isdisjoint(place.todo):
                place.lane.stage("ready")
        elif word == "begin":
            jobs = place.todo.get(values[0], ())
            label = jobs[0].plan.run_name if len(jobs) == 1 else f"{counted(len(jobs), 'quartet')} side by side"
            place.lane.left = place.open
            place.lane.begin(label, len(jobs))
        elif word == "ended":
            number, index, reason = values
            self._finished(place, number, self._designs[number].jobs[index], reason)

    def _finished(self, place: _Place, number: int, job: PlannedJob, reason: str | None) -> None:
        place.todo[number] = [other for other in place.todo[number] if other is not job]
        label = f"{job.plan.run_name} on {place.name}"
        self._progress.end(reason, seconds=time.monotonic() - place.lane.started, label=label)
        if not place.open:
            place.lane.label = ""
        self._after()

    def _give(self, design: PlannedDesign, place: _Place | None) -> None:
        """Give a design to a place; None: to that with the least to do, and its quartets fail where there is none."""
        place = place or min(self._places, key=lambda other: other.open, default=None)
        if place is None:
            fail_all(design, self._sweep_id, self._outbox.store, "no device is left to measure on", self._failed)
            return
        number = len(self._designs)
        self._designs.append(design)
        place.todo[number] = list(design.jobs)
        alone = self._preparing is not None
        place.tell("prepare", number, design, self._sweep_id, self._outbox.store, alone)
        if self._preparing is not None:
            self._preparing.add(number)
        else:
            place.tell("measure", number)

    def _failed(self, job: PlannedJob, reason: str | None) -> None:
        self._progress.end(reason, seconds=0.0, label=job.plan.run_name)
        self._after()

    def _lose(self, place: _Place, reason: str) -> None:
        """Go on without a place: what it has not measured is for the others."""
        self._places.remove(place)
        _end(place)
        place.lane.label = ""
        handed_on = f"; {counted(place.open, 'quartet')} for the others" if place.open else ""
        self._say(f"{place.name}{f' ({place.device})' if place.device else ''} is lost: {reason}{handed_on}.")
        for number, jobs in list(place.todo.items()):
            if self._preparing is not None:
                self._preparing.discard(number)
            left = self._taken_back(place, number, jobs)
            if left:
                self._give(PlannedDesign(tuple(left), self._designs[number].family), None)

    def _taken_back(self, place: _Place, number: int, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
        """Remove the rows that a lost place had begun; return their quartets. What it had stored, it has measured."""
        deliver(self._outbox)
        chip = gpu() if jobs and jobs[0].plan.device == "cuda" else None
        keyed = [(quartet_key(job.plan, chip), job) for job in jobs]  # a grid may hold the same quartet twice
        stored = take_back(self._outbox.store, self._sweep_id, [key for key, _ in keyed])
        for key, job in keyed:
            if key in stored:
                self._finished(place, number, job, stored[key])
        return [job for key, job in keyed if key not in stored]


def _end(place: _Place) -> None:
    """End a place's process, and with it its workers."""
    if place.process.is_alive():
        place.process.kill()
    place.process.join(_END_S)
    place.channel.close()


class _Sending:
    """A place's progress, which the sweep's process shows."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def stage(self, name: str, cell: str = "") -> None:
        self._channel.send(("stage", name, cell))

    def block(self, standing: Standing, remaining_s: float) -> None:
        self._channel.send(("block", standing, remaining_s))


def _main(channel: Connection, name: str, number: int, device: str, places: int, parent: int) -> None:
    """Be a place: prepare and measure what the sweep's process gives, until the device is lost or nothing comes."""
    from harness.system.command import quiet

    die_with_parent(parent)
    quiet()
    os.environ[VISIBLE] = name
    if os.environ.get(SIMULATED):  # a core each
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    trouble = device_trouble(device, unused=True)
    channel.send(("lost", trouble) if trouble else ("here", device_id(device)))
    if trouble:
        return
    _share_cores(places)
    with suppress(EOFError, OSError):  # nobody is there any more
        _serve(channel, device)


def _share_cores(places: int) -> None:
    """Run networks on this place's part of the cores: threads of all places would wait for each other, spinning."""
    import torch

    torch.set_num_threads(max(1, usable_cores() // places))


def _serve(channel: Connection, device: str) -> None:
    runs: dict[int, DesignRun] = {}
    while True:
        word, number, *values = channel.recv()
        try:
            if word == "prepare":
                design, sweep_id, store, alone = values
                runs[number] = _run_of(channel, number, design, sweep_id, store, device)
                runs[number].prepare(nullcontext() if alone else None)
                channel.send(("prepared", number))
            else:
                channel.send(("begin", number))
                runs.pop(number).measure()
        except DeviceLost as lost:
            channel.send(("lost", str(lost)))
            return
        except RowLost as lost:
            channel.send(("full", str(lost)))
            return


def _run_of(
    channel: Connection, number: int, design: PlannedDesign, sweep_id: str, store: Store, device: str
) -> DesignRun:
    def ended(job: PlannedJob, reason: str | None) -> None:
        index = next(index for index, other in enumerate(design.jobs) if other is job)
        channel.send(("ended", number, index, reason))

    return DesignRun(design, sweep_id, store, _Sending(channel), ended, lambda: device_trouble(device))
