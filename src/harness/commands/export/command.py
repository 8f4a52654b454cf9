"""Take a measured cell away: ONNX graph, engine, weights, model.json and a loader that runs without this project.

  python -m harness.report                          which cell should it be?
  python -m harness.export RUN combined winner      writes the folder `winner`
  cd winner; python loader.py check_inputs.npz answers.npz

RUN is a quartet's run id in MLflow, the beginning of one, its name, or the name of a sweep of one quartet. The cell is
rebuilt (from the cache, where it is still there) and must be the one that was measured: same graph, weights, engine and
chip. Before the folder gets its name, the loader has run in a process of its own, and its answers are the cell's.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.config import HarnessConfig, from_omegaconf
from harness.engines import get
from harness.measure.cell import Cell, QuartetPlan
from harness.measure.lock import building
from harness.measure.progress import Silent
from harness.stats.roles import ROLES
from harness.system.command import CommandParser, quiet, run_command
from harness.system.errors import CellError, UserError, first_line
from harness.system.files import put_in_place, work_folder
from harness.system.machine import cpu_name, git_sha, gpu
from harness.system.tables import new_console
from harness.tracking.load import StoredQuartet, find_quartet

if TYPE_CHECKING:
    from harness.sweep.scenarios.scenario import Scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Export; return 0, 1 where the exported cell can't be proven to be the measured one, 2 for a wrong request."""
    return run_command("harness.export", lambda: _run(arguments), "interrupted; nothing was written.")


def _parser() -> CommandParser:
    parser = CommandParser("harness.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a quartet's run id, the beginning of one, or a name")
    parser.add_argument("cell", metavar="CELL", choices=ROLES, help=f"which of its cells: {', '.join(ROLES)}")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; must not exist yet")
    parser.add_argument("--uri", help="tracking URI, or the folder of an embedded store (default: mlruns)")
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    quiet()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same orderly end as Ctrl-C
    console = new_console()
    _check_folder(options.folder)
    quartet = find_quartet(options.run, options.uri)
    recorded = recorded_cell(quartet, options.cell)
    plan = planned_again(quartet, options.cell)
    _say(console, f"{options.cell} of {quartet.name} ({quartet.run_id[:8]}): building it again")
    try:
        waiting = "waiting until no sweep times or builds on this machine"
        with building(lambda: _say(console, waiting)), work_folder(options.folder.absolute()) as work:
            cell = rebuilt(plan, recorded)
            whole = work / options.folder.name
            whole.mkdir()  # with the rights that a new folder has here, where a temporary one is its user's alone
            notes = _write(whole, quartet, plan, cell, console)
            put_in_place(whole, options.folder)
    except CellError as error:
        console.print(f"FAILED: {options.cell} of {quartet.name}: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except OSError as error:
        raise UserError(f"can't write {options.folder}: {error.strerror or first_line(error)}.") from None
    for note in notes:
        _say(console, note)
    _say(console, f"Written: {options.folder}")
    return 0


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _check_folder(folder: Path) -> None:
    """Raise UserError unless FOLDER can be made where it is to be; nothing is left behind."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} exists: name a folder that does not, or remove it first.")
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise UserError(f"{folder}: there is no folder {parent}; make it first.")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UserError(f"{folder}: can't write in {parent} ({error.strerror}); choose another place.") from None


@dataclass(frozen=True)
class RecordedCell:
    """What a row says of one of its cells, by which the rebuilt one is recognised."""

    artifacts: tuple[tuple[str, str], ...]  # key and SHA-256 of the main file, one a stage
    router: Mapping[str, Any] | None  # its fields
    chip: str


def recorded_cell(quartet: StoredQuartet, role: str) -> RecordedCell:
    """Return what a quartet recorded of a cell; raise UserError where that is too little to recognise it by."""
    if quartet.row["status"] != "FINISHED":
        reason = quartet.row.get("error") or "it did not finish"
        raise UserError(f"{quartet.name} is {quartet.row['status']}: {reason}.")
    with quartet.file("interaction.json") as path:
        cells = json.loads(path.read_text()).get("cells", {}) if path else {}
    if role not in cells:
        raise UserError(f"{quartet.name} has no cell {role}: it has {', '.join(cells) or 'none'}.")
    stages = cells[role]["stages"]
    if not all(stage.get("artifact_key") for stage in stages):
        raise UserError(
            f"{quartet.name} was measured before rows recorded their engines' keys, so nothing shows that what is "
            "built now is what was measured: measure it again."
        )
    artifacts = tuple((stage["artifact_key"], stage["artifact_sha256"]) for stage in stages)
    chip = str(quartet.row.get("gpu") or "none")
    return RecordedCell(artifacts, cells[role].get("policy"), chip)


def planned_again(quartet: StoredQuartet, role: str) -> QuartetPlan:
    """Return the plan of the quartet with this cell alone, made of its recorded config.

    Raises UserError for a config that this version can't read, or a machine that lacks its device or engine.
    """
    from harness.sweep.devices import device_of
    from harness.sweep.plan import plan_quartet

    config = _config(quartet)
    device = device_of(config)
    here = (gpu() or {}).get("name", "none") if device == "cuda" else "none"
    measured_on = str(quartet.row.get("gpu") or "none")
    if here != measured_on:
        places = {"none": "a CPU"}
        raise UserError(
            f"{quartet.name} was measured on {places.get(measured_on, measured_on)}, and this machine would run it on "
            f"{places.get(here, here)}: an engine is built for its chip, so export it there."
        )
    engine = str(quartet.row["engine"]) if config.engine.name == "auto" else config.engine.name
    plan = plan_quartet(config, engine, device)
    cell = next((cell for cell in plan.cells if cell.role == role), None)
    if cell is None:
        raise UserError(f"{quartet.name} has no cell {role}.")
    reason = get(cell.engine).availability(device).run
    if reason is not None:
        raise UserError(reason)
    return replace(plan, cells=(cell,))


def _config(quartet: StoredQuartet) -> HarnessConfig:
    from omegaconf import OmegaConf

    from harness.sweep.command_line import register_schema

    with quartet.file("config.yaml") as path:
        text = path.read_text() if path else ""
    if not text:
        raise UserError(f"{quartet.name} has no config.yaml, which says what to build.")
    try:
        register_schema()
        config = from_omegaconf(OmegaConf.create(text))
    except Exception as error:  # OmegaConf's, or a technique of a package that is not installed
        raise UserError(f"{quartet.name}: its config can't be read by this version: {first_line(error)}") from error
    return replace(config, engine=replace(config.engine, build_only=False))  # it is run, to be compared


def rebuilt(plan: QuartetPlan, recorded: RecordedCell) -> Cell:
    """Return the cell of a plan, built or from the cache; raise UserError where it is not the recorded one.

    Raises CellError where it can't be built at all.
    """
    from harness.sweep.build import build_quartet
    from harness.sweep.scenarios import scenario_of
    from harness.system.cache import open_cache

    scenario: Scenario = scenario_of(plan.config)
    cache = open_cache(plan.config.cache, "export")
    found: list[Cell] = []
    for requested, build in scenario.builds(plan):
        if not requested.cells:
            continue
        (cell,) = build_quartet(requested, cache, Silent(), build).values()
        if tuple(artifact.key for artifact in cell.artifacts) == tuple(key for key, _ in recorded.artifacts):
            _check_same(cell, recorded)
            return cell
        found.append(cell)
    raise UserError(_what_differs(found[0] if found else None, recorded))


def _check_same(cell: Cell, recorded: RecordedCell) -> None:
    """Raise UserError where a cell of the same keys is not the recorded one, to the byte."""
    shas = tuple(artifact.files[artifact.main_file] for artifact in cell.artifacts)
    if shas != tuple(sha for _, sha in recorded.artifacts):
        raise UserError(
            "its engine is not in the cache any more, and a new build came out differently (builds that time kernels "
            "do): measure it again, then export."
        )
    router = json.loads(json.dumps(asdict(cell.router))) or None
    if router != recorded.router:
        raise UserError(f"who leaves between its stages is decided by {router}, and was by {recorded.router}.")


def _what_differs(cell: Cell | None, recorded: RecordedCell) -> str:
    """Return why a rebuilt cell is not the recorded one, as far as that can be told."""
    begin = "what is built now is not what was measured (its key differs)"
    if cell is None:
        return f"{begin}: its scenario builds no such cell."
    return (
        f"{begin}: code, weights, options, engine ({cell.engine} {cell.artifacts[0].engine_version} now), driver or "
        f"chip ({recorded.chip if recorded.chip != 'none' else cpu_name()} then) changed since; the code is at "
        f"{git_sha()[:12] or 'a release'} now. Measure it again, then export."
    )


def _write(work: Path, quartet: StoredQuartet, plan: QuartetPlan, cell: Cell, console: Console) -> list[str]:
    """Fill the folder and prove it; return what a person must know of it."""
    from harness.commands.export.folder import write_folder
    from harness.commands.export.proof import prove

    _say(console, "writing graph, engine, weights and loader; the weights are those of fp32")
    notes = write_folder(work, quartet, plan, cell)
    _say(console, "running the loader in a process of its own, and the cell beside it")
    difference = prove(work, cell, plan.config.protocol)
    return [*notes, f"The loader's answers are the cell's: they differ by {difference:.2g} of their range at most."]
