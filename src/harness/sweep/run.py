"""The order of a sweep. `run_sweep` reads like this list, and each step has one home:

1. compose every job once                        `command_line.py`
2. plan every quartet once, refuse what can't be `refusals.py`, `plan.py`
3. reuse what an unfinished sweep has measured   `resume.py`
4. build the distinct cells ahead, in a pool     `ahead.py`
5. to 7. measure side by side, analyse, log      `job.py`, here or through a launcher: `fleet.py`
8. conclude: Holm, report, table, exit status    `conclude.py`
"""  # noqa: D415, a list

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from rich.console import Console

from harness.measure.cell import QuartetPlan
from harness.measure.fitness import warning
from harness.sweep.ahead import build_ahead
from harness.sweep.command_line import ComposedSweep
from harness.sweep.conclude import conclude
from harness.sweep.devices import device_of, devices_of
from harness.sweep.dry_run import dry_run
from harness.sweep.fleet import Launcher, check_reach, choose_launcher, design_runner, launch, watching
from harness.sweep.job import PlannedDesign, PlannedJob, designs_of, quartet_key, run_design
from harness.sweep.preregister import begin_sweep
from harness.sweep.refusals import PlannedSweep, plan_sweep
from harness.sweep.resume import (
    GRID_TAG,
    Resumed,
    adopt,
    continuation_tags,
    end_dead_sweeps,
    find_measured,
    grid_key,
)
from harness.sweep.spread import Spread
from harness.sweep.terminal import VERBATIM, TerminalProgress, announce_plan
from harness.system.counts import counted
from harness.system.interruption import Interruption
from harness.system.machine import gpu
from harness.system.processes import this_process
from harness.system.secrets import redacted
from harness.system.tables import new_console
from harness.tracking import Store, end_killed, exclusive, install_views, open_store
from harness.tracking.liveness import PROCESS_TAG, living
from harness.tracking.outbox import Outbox, RowLost, deliver, outbox_of, reason_of
from harness.tracking.store import as_user_error, quietly, resolve_uri

_STOPPED = "  Stopped: results can't be stored. To resume, make room and run the same command."


@dataclass(frozen=True)
class _StartedSweep:
    """A sweep whose parent run has begun."""

    planned: PlannedSweep
    store: Store
    sweep_id: str
    outbox: Outbox
    resumed: Resumed
    to_measure: tuple[PlannedJob, ...]  # in the order of the grid

    def designs(self, at_once: int = 1) -> list[PlannedDesign]:
        """Return what is to be measured, as it is measured, on so many devices."""
        return designs_of(self.to_measure, len(self.planned.jobs), at_once)


@dataclass(frozen=True)
class EndedSweep:
    """What became of a sweep."""

    status: int  # 0 all quartets fine, 1 some failed
    sweep_id: str | None  # of its parent run; None: a dry run has none
    uri: str  # of its store


def run_sweep(
    composed: ComposedSweep, overrides: Sequence[str], command: str, interruption: Interruption
) -> EndedSweep:
    """Run the sweep that overrides were composed to, and return what became of it.

    Whatever can't be done ends before anything is begun, as a UserError.
    """
    first = composed.jobs[0].config
    devices = devices_of(first.engine, device_of(first))  # before any network is built
    planned = plan_sweep(composed.jobs)
    launcher = choose_launcher(overrides, planned.device, composed.hydra)
    if devices:
        launcher = launcher.spread_over(len(devices))
    console = new_console()
    if first.dry_run:
        return EndedSweep(dry_run(console, planned, launcher.devices), None, "")
    with ExitStack() as alive:
        sweep = _start(planned, launcher, command, alive)
        with _killed_if_interrupted(sweep, interruption):
            _announce(console, sweep)
            _measure(sweep, launcher, devices, overrides, console, command, interruption)
            status = conclude(console, sweep.store, sweep.sweep_id, sweep.outbox, planned)
    return EndedSweep(status, sweep.sweep_id, sweep.store.uri)


def _measure(
    sweep: _StartedSweep,
    launcher: Launcher,
    devices: Sequence[str],
    overrides: Sequence[str],
    console: Console,
    command: str,
    interruption: Interruption,
) -> None:
    """Build and measure what is left to do, here or elsewhere; the screen shows how far it is."""
    total = counted(len(sweep.planned.jobs), "quartet")
    with TerminalProgress(console, len(sweep.planned.jobs)) as progress:

        def report_state() -> None:
            done = f"{progress.good} of {total} done{' and stored' if progress.good else ''}."
            interruption.progress = f"{done} {_how_to_go_on(sweep, command)}"

        report_state()
        _build(sweep, launcher, progress)
        if devices:
            _measure_on(devices, sweep, console, progress, report_state)
        elif launcher.here:
            _measure_here(sweep, console, progress, report_state)
        else:
            _measure_elsewhere(sweep, launcher, overrides, console, progress, report_state, interruption)


def _how_to_go_on(sweep: _StartedSweep, command: str) -> str:
    """Return how to resume a sweep: a command with `resume=never` would measure everything again."""
    if sweep.planned.jobs[0].plan.config.resume != "never":
        return f"To resume, run the same command: {redacted(command)}"
    never, option = "resume=never", f"resume={sweep.sweep_id}"
    going_on = command.replace(never, option) if never in command else f"{command} {option}"
    return f"To resume, run: {redacted(going_on)}"


def _start(planned: PlannedSweep, launcher: Launcher, command: str, alive: ExitStack) -> _StartedSweep:
    """Begin the sweep's parent run; keep the quartets that an unfinished sweep of the same grid has measured.

    What shows others that the sweep runs is entered into `alive`, before anybody can see the sweep.
    """
    config = planned.jobs[0].plan.config
    check_reach(launcher, resolve_uri(config.tracking.uri, config.tracking.root)[0])
    store = open_store(config.tracking)
    install_views(store)
    chip = gpu() if planned.device == "cuda" else None
    keys = [quartet_key(job.plan, chip) for job in planned.jobs]
    outbox = outbox_of(store, config.tracking.root)
    name = config.sweep_name or _name_of([job.plan for job in planned.jobs])
    engines = [planned.engines[job.plan.config.engine.name] for job in planned.jobs]
    tags = {"engine": ", ".join(dict.fromkeys(engines)), "command": redacted(command)}
    tags |= {PROCESS_TAG: this_process(), GRID_TAG: grid_key(keys)}
    if planned.left_out:
        tags["left_out"] = redacted("\n".join(entry.text for entry in planned.left_out))
    deliver(outbox)
    with as_user_error(store.uri, "begin a sweep in"), exclusive(store):  # or two could adopt the same quartets
        end_dead_sweeps(store)
        resumed = find_measured(store, keys, config.resume)
        sweep_id = begin_sweep(store, name, tags | continuation_tags(resumed), planned.jobs, keys)
        alive.enter_context(living(store, sweep_id))
        adopt(store, resumed, sweep_id)
    to_measure = tuple(job for job, key in zip(planned.jobs, keys, strict=True) if key not in resumed.finished)
    return _StartedSweep(planned, store, sweep_id, outbox, resumed, to_measure)


def _name_of(plans: Sequence[QuartetPlan]) -> str:
    """Return a name made from the grid: model, arch and hw choices."""
    arch = ",".join(dict.fromkeys("+".join(plan.arch) or "none" for plan in plans))
    hw = ",".join(dict.fromkeys("+".join(plan.hw) or "none" for plan in plans))
    return f"{arch} x {hw} on {plans[0].config.model.name}"


def _announce(console: Console, sweep: _StartedSweep) -> None:
    """Say how the sweep was planned, and what need not be measured again."""
    planned, resumed = sweep.planned, sweep.resumed
    announce_plan(console, planned)
    if console.is_terminal and (busy := warning(planned.device)):  # for who can still wait, or stop the others
        console.print(busy, style="yellow", **VERBATIM)
    if resumed.finished:
        console.print(
            f"Resuming sweep {resumed.name}: {len(resumed.finished)} of "
            f"{counted(len(planned.jobs), 'quartet')} already measured (resume=never measures all of them anew).",
            **VERBATIM,
        )


@contextmanager
def _killed_if_interrupted(sweep: _StartedSweep, interruption: Interruption) -> Iterator[None]:
    """End a sweep's run as KILLED if what is inside is broken off, unless it has ended by then."""
    try:
        yield
    except BaseException as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error)
        with suppress(Exception), quietly():  # a store that is down: the next start ends the sweep
            if sweep.store.client().get_run(sweep.sweep_id).info.status == "RUNNING":
                end_killed(sweep.store, sweep.sweep_id, why)
            else:
                interruption.progress = "all is measured and logged: python -m harness.report shows it."
        raise


def _build(sweep: _StartedSweep, launcher: Launcher, progress: TerminalProgress) -> None:
    """Build ahead what all quartets need, where they are measured on this machine."""
    progress.begin("the sweep")
    if launcher.one_machine:
        build_ahead([job.plan for job in sweep.to_measure], progress, sweep.sweep_id, launcher.at_once)


def _measure_here(
    sweep: _StartedSweep, console: Console, progress: TerminalProgress, report_state: Callable[[], None]
) -> None:
    """Measure, analyse and log design by design in this process."""
    _show_resumed(sweep, progress)

    def ended(job: PlannedJob, reason: str | None) -> None:
        progress.end(reason, label=job.plan.run_name)
        _deliver(sweep, console)
        report_state()

    report_state()
    for design in sweep.designs():
        progress.begin(_shown(design), len(design.jobs))
        try:
            run_design(design, sweep.sweep_id, sweep.store, progress, ended)
        except RowLost:  # reported with its quartet
            console.print(_STOPPED)
            return


def _measure_on(
    devices: Sequence[str],
    sweep: _StartedSweep,
    console: Console,
    progress: TerminalProgress,
    report_state: Callable[[], None],
) -> None:
    """Measure, analyse and log in a process for each of these devices."""
    _show_resumed(sweep, progress)

    def after() -> None:
        _deliver(sweep, console)
        report_state()

    report_state()
    spread = Spread(sweep.sweep_id, sweep.outbox, progress, lambda text: console.print(text, **VERBATIM), after)
    if not sweep.to_measure:
        return
    try:
        spread.measure(sweep.to_measure, len(sweep.planned.jobs), devices)
    except RowLost:
        console.print(_STOPPED)


def _show_resumed(sweep: _StartedSweep, progress: TerminalProgress) -> None:
    """Show the quartets that an earlier sweep has measured."""
    to_measure = {id(job) for job in sweep.to_measure}
    for job in sweep.planned.jobs:
        if id(job) not in to_measure:
            progress.begin(job.plan.run_name, quartets=1)
            progress.end(None, resumed=True)


def _deliver(sweep: _StartedSweep, console: Console) -> None:
    """Deliver rows that wait, if it is time to try; say which still do."""
    for row in deliver(sweep.outbox, at_once=False):
        text = f"  {row.run_name} is not logged yet: {row.reason}; it waits in {sweep.outbox.folder}"
        console.print(text, **VERBATIM)


def _shown(design: PlannedDesign) -> str:
    """Return what the screen calls a design while it runs."""
    first, *others = design.jobs
    return f"{len(design.jobs)} quartets side by side" if others else first.plan.run_name


def _measure_elsewhere(
    sweep: _StartedSweep,
    launcher: Launcher,
    overrides: Sequence[str],
    console: Console,
    progress: TerminalProgress,
    report_state: Callable[[], None],
    interruption: Interruption,
) -> None:
    """Have a launcher run the quartets in other processes, and show each one's end as soon as the store has it.

    If one of its processes is killed outright, the launcher gives up; finished rows are kept.
    """
    for _ in sweep.resumed.finished:
        progress.end(None, resumed=True)
    report_state()
    designs = sweep.designs(launcher.devices)
    runner = design_runner(designs, sweep.sweep_id, sweep.store)
    with watching(sweep.store, sweep.sweep_id, sweep.resumed.finished.values(), progress, report_state):
        try:
            launch(launcher, overrides, runner, len(designs))
        except Exception as error:
            if interruption.came():  # the launcher handled SIGTERM itself
                raise KeyboardInterrupt from None
            console.print(f"{launcher.name} gave up: {reason_of(error)}", **VERBATIM)
