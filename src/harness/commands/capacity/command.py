"""`python -m harness.capacity STUDY --demand 50000`: GPUs, load and cost for a demand within a latency bound.

STUDY is a `serving.json`, a folder of them, or a sweep or quartet in the tracking store that was measured with
scenario=server. Baseline and candidate are planned side by side and both plans are checked against a simulated fleet
that takes the measured batch times. Exit status: 0 with an answer (also where the check warns), 2 for a wrong request.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system.command import CommandParser, number, run_command
from harness.system.counts import counted
from harness.system.errors import UserError
from harness.system.files import is_special, write_whole

if TYPE_CHECKING:
    from harness.commands.capacity.answer import FleetAnswer
    from harness.commands.capacity.plan import Demand
import re
import tempfile
from typing import TYPE_CHECKING

from harness.commands.capacity.curves import Curves, parse

if TYPE_CHECKING:
    from mlflow import MlflowClient


WINDOW_S, SPLIT = 60.0, "random"  # unless an option says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answer; return 0, or 2 where the request is wrong."""
    return run_command("harness.capacity", lambda: _answer(_parser().parse_args(arguments)))


def _answer(options: argparse.Namespace) -> int:
    from rich.console import Console

    from harness.commands.capacity.answer import Question, answer
    from harness.commands.capacity.command import find_curves
    from harness.commands.capacity.table import print_answer

    _check_idle(options)
    _check_writable(options.json)
    question = Question(
        demand=_demand(options),
        slo_ms=options.slo_ms,
        headroom=options.headroom,
        price_per_hour=options.price_per_hour,
        candidate=options.candidate,
        quartet=options.quartet,
        split=(options.split or SPLIT) if options.simulate else None,
    )
    found = answer(find_curves(options.study, options.uri), question)
    print_answer(Console(markup=False), found)
    if options.json is not None:
        _write(options.json, found)
    return 0


def _demand(options: argparse.Namespace) -> Demand:
    from harness.commands.capacity.plan import constant, profile, trace

    if options.profile is not None:
        return profile(options.profile)
    if options.trace is not None:
        return trace(options.trace, options.window_s or WINDOW_S)
    return constant(options.demand)


def _check_idle(options: argparse.Namespace) -> None:
    """Raise UserError for an option that changes nothing beside the others: it would look as if it did."""
    if options.window_s is not None and options.trace is None:
        raise UserError("--window-s is for a trace of arrivals: add --trace CSV, or drop it.")
    if options.split is not None and not options.simulate:
        raise UserError("--split is for the check of the plans, which --no-simulate leaves out: drop one of the two.")
    if options.uri is not None and Path(options.study).exists():
        raise UserError(f"--uri: {options.study} is a file or a folder, read without a store: drop it.")


def _check_writable(path: Path | None) -> None:
    if path is None or (is_special(path) and os.access(path, os.W_OK)):
        return
    if path.is_dir() or not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
        raise UserError(f"--json {path}: is a folder, or is in one that does not exist or can't be written")


def _write(path: Path, found: FleetAnswer) -> None:
    from harness.commands.capacity.table import notes
    from harness.results.units import SAMPLE

    whole: dict[str, Any] = {
        "quartet": found.curves.name,
        "device": found.curves.device,
        "slo_ms": found.slo_ms,
        "percentile": found.curves.percentile,
        SAMPLE: found.curves.sample,
        "demand": found.question.demand.described(found.curves.sample),
        "peak_per_s": found.question.demand.peak_per_s,
        "mean_per_s": found.question.demand.mean_per_s,
        "price_per_hour": found.question.price_per_hour,
        "plans": {plan.sustained.cell: asdict(plan) for plan in found.plans},
        "checks": {plan.sustained.cell: asdict(c) for plan, c in zip(found.plans, found.checks, strict=False)},
        "notes": notes(found),
    }
    write_whole(path, json.dumps(whole, indent=1))


def _parser() -> CommandParser:
    from harness.serving.queueing import SPLITS

    parser = CommandParser(
        "harness.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", metavar="STUDY", help="a serving.json, a folder of them, or a sweep or quartet")
    demand_group = parser.add_mutually_exclusive_group(required=True)
    above_zero = number(0)
    demand_group.add_argument(
        "--demand",
        type=above_zero,
        metavar="PER_S",
        help="a constant rate of images (of samples, if it takes no images)",
    )
    demand_group.add_argument(
        "--profile", type=Path, metavar="CSV", help="a day: columns hour (0 to below 24), rate_per_s"
    )
    demand_group.add_argument("--trace", type=Path, metavar="CSV", help="arrivals: column arrival_s, optionally images")
    parser.add_argument("--slo-ms", type=above_zero, help="latency bound (default: the study's own)")
    parser.add_argument("--price-per-hour", type=above_zero, help="of one GPU, in any currency")
    headroom = number(0, 1, closed=True)
    parser.add_argument(
        "--headroom", type=headroom, default=0.2, help="share of each GPU's rate kept free (%(default)s)"
    )
    parser.add_argument("--candidate", metavar="CELL", help="arch, hw or combined (default: what sustains most)")
    parser.add_argument("--quartet", metavar="NAME", help="one of the study's (default: the one with that cell)")
    parser.add_argument("--window-s", type=above_zero, help=f"a trace's peaks are means over it ({WINDOW_S:g})")
    parser.add_argument("--simulate", action=argparse.BooleanOptionalAction, default=True, help="check the plans")
    parser.add_argument("--split", choices=list(SPLITS), help=f"of requests over GPUs ({SPLIT})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answer there too")
    parser.add_argument("--uri", help="tracking URI, or the folder of an embedded store (default: mlruns)")
    return parser


ARTIFACT = "serving.json"
CPU = "a CPU (what is called a GPU below is one such machine)"


def find_curves(study: str, uri: str | None = None) -> list[Curves]:
    """Return the curves of each quartet of a study.

    Args:
        study: a file; a folder (all files below it whose names end in `serving.json`); else a sweep's name or run
            id, or the run id of one quartet. A path that exists comes before a sweep of that name.
        uri: a tracking URI, or a folder that holds an embedded store; None: as `harness.load` finds it.

    Raises:
        UserError: there is no such study, none of its quartets was measured under load, or a file is wrong.

    """
    path = Path(study)
    if path.is_file():
        return [_read(path, str(path))]
    if path.is_dir():
        files = sorted(path.rglob(f"*{ARTIFACT}"))
        if not files:
            raise UserError(f"no file named {ARTIFACT} (or ending so) below the folder {study}")
        return [_read(file, str(file.relative_to(path))) for file in files]
    if path.suffix == ".json":
        raise UserError(f"there is no file {study}")
    return _stored(study, uri)


def _read(path: Path, name: str, device: str | None = None) -> Curves:
    try:
        return parse(path.read_text(encoding="utf-8"), name, device)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error


def _stored(study: str, uri: str | None) -> list[Curves]:
    from harness.config import TrackingConfig
    from harness.tracking.load import load
    from harness.tracking.store import DATABASE, as_user_error, client, existing_uri, quiet_environment, resolve_uri

    if uri and Path(uri).is_dir():
        uri = f"sqlite:///{Path(uri).absolute() / DATABASE}"
    address = existing_uri(uri or resolve_uri(None, TrackingConfig().root)[0])
    quiet_environment()
    mlflow = client(address)
    if _is_quartet(mlflow, study):
        ids = [study]
    else:
        sweep = load(study, address)
        ids = [str(run_id) for run_id in sweep["run_id"][sweep["status"] == "FINISHED"]]
    with as_user_error(address, "read"), tempfile.TemporaryDirectory() as folder:
        found: list[Curves] = []
        for run_id in ids:
            if any(artifact.path == ARTIFACT for artifact in mlflow.list_artifacts(run_id)):
                run = mlflow.get_run(run_id)
                file = Path(mlflow.download_artifacts(run_id, ARTIFACT, folder))
                name, gpu = str(run.info.run_name), run.data.tags.get("gpu")
                name = f"{name}-{run_id[:6]}" if any(curves.name == name for curves in found) else name
                found.append(_read(file, name, CPU if gpu == "none" else gpu))
    if not found:
        raise UserError(
            f"{study}: of {counted(len(ids), 'finished quartet')} none was measured under load: run it with "
            "scenario=server"
        )
    return found


def _is_quartet(mlflow: MlflowClient, study: str) -> bool:
    from mlflow.exceptions import MlflowException

    if not re.fullmatch(r"[0-9a-f]{32}", study):  # MLflow's run ids
        return False
    try:
        return bool(mlflow.get_run(study).data.tags.get("kind") == "quartet")
    except MlflowException:
        return False  # then it is for `load` to say that there is no such sweep
