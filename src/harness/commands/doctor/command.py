"""`python -m harness.doctor`: which engines can build here, which can run, why the others can't, and do they work."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.commands.doctor.self_test import SelfTest, self_test
from harness.system.command import CommandParser, run_command
from harness.system.errors import UserError
from harness.system.tables import new_table, print_fitting

if TYPE_CHECKING:
    from harness.engines.base import Engine


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0, or 1 if an engine that can run fails its self-test."""
    return run_command("harness.doctor", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    from harness.system.command import quiet

    options = _parser().parse_args(arguments)
    if options.no_test and options.engine is not None:
        raise UserError("--engine chooses what is tested, and --no-test tests nothing: drop one of the two.")
    quiet()
    from harness.engines import get
    from harness.measure.fitness import warning
    from harness.system.machine import environment

    device = visible_device()
    found = diagnose(device)
    machine = environment()
    able = [diagnosis for diagnosis in found if diagnosis.cannot_build is None or diagnosis.cannot_run is None]
    chosen = [diagnosis for diagnosis in able if options.engine in (None, diagnosis.engine)]
    if options.engine is not None and not chosen:
        unknown = f"there is no such engine; choose one of {', '.join(diagnosis.engine for diagnosis in found)}."
        reasons = {diagnosis.engine: diagnosis.cannot_build for diagnosis in found}
        reason = reasons.get(options.engine, unknown)
        raise UserError(f"{options.engine}: {reason}")
    console = Console(
        stderr=options.json, markup=False
    )  # so that --json leaves nothing but JSON on the standard output
    if not options.json:
        print_machine(console, machine, device)
        if busy := warning(device):
            console.print(busy, style="yellow", highlight=False, soft_wrap=True)
        print_engines(console, found)
    tests: list[SelfTest] = []
    if not options.no_test:
        for diagnosis in chosen:
            if options.engine is None and not get(diagnosis.engine).quick:
                later = f"python -m harness.doctor --engine {diagnosis.engine}"
                console.print(
                    f"\n{diagnosis.engine}: not tested, its builds take minutes: {later}",
                    highlight=False,
                    soft_wrap=True,
                )
                continue
            steps = "build, load, verify, capture, time" if diagnosis.cannot_run is None else "build"
            console.print(f"\nself-test of {diagnosis.engine}: {steps} ...", highlight=False)
            build_only, thorough = diagnosis.cannot_run is not None, options.engine is not None
            tests.append(self_test(diagnosis.engine, device, build_only=build_only, thorough=thorough))
            print_test(console, tests[-1])
    if options.json:
        whole = {"machine": machine, "device": device, "engines": [asdict(diagnosis) for diagnosis in found]}
        print(json.dumps({**whole, "self_tests": [asdict(test) for test in tests]}, indent=1))
    return 0 if all(test.passed for test in tests) else 1


def _parser() -> CommandParser:
    parser = CommandParser("harness.doctor", description=__doc__)
    parser.add_argument(
        "--engine", help="test this engine only, with all that it accelerates by: minutes, for a compiler"
    )
    parser.add_argument("--no-test", action="store_true", help="only say what can be built and run")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser


def print_machine(console: Console, machine: dict[str, Any], device: str) -> None:
    """Print what the machine is."""
    cpu, gpu = machine["cpu"], machine["gpu"]
    line = f"{cpu['name']}, {cpu['cores_usable']} cores usable, {cpu['memory_gib']} GiB; Python {machine['python']}"
    console.print(line, highlight=False, soft_wrap=True)
    if gpu is None:
        console.print("no NVIDIA GPU is visible (NVML finds no driver): engines run on the CPU", highlight=False)
        return
    figures = [f"compute capability {gpu['compute_capability']}", f"{gpu['memory_gib']} GiB", f"driver {gpu['driver']}"]
    figures += [f"{gpu['sms']} SMs"] if gpu["sms"] else []
    figures += [f"{gpu['bandwidth_nominal_gb_s']} GB/s nominal"] if gpu["bandwidth_nominal_gb_s"] else []
    console.print(f"{gpu['name']}: {', '.join(figures)}", highlight=False, soft_wrap=True)
    if device == "cpu":
        console.print(
            "torch sees no CUDA GPU: is it the CPU build, or CUDA_VISIBLE_DEVICES set to "
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'nothing')}?",
            style="yellow", highlight=False,
        )  # fmt: skip


def print_engines(console: Console, found: Sequence[Diagnosis]) -> None:
    """Print what each engine can do, and the reason for each no."""
    table = new_table()
    for header in ("engine", "version", "builds", "runs"):
        table.add_column(header, no_wrap=True)
    for diagnosis in found:
        able = ["no" if reason else "yes" for reason in (diagnosis.cannot_build, diagnosis.cannot_run)]
        table.add_row(diagnosis.engine, diagnosis.version, *able)
    console.print()
    print_fitting(console, [table])
    for diagnosis in found:
        for what, reason in (("build", diagnosis.cannot_build), ("run", diagnosis.cannot_run)):
            if reason and not (what == "run" and reason == diagnosis.cannot_build):
                also = "build or run" if what == "build" and diagnosis.cannot_run == reason else what
                console.print(
                    f"  {diagnosis.engine} can't {also}: {reason}", highlight=False, soft_wrap=True, style="yellow"
                )
        for line in diagnosis.details:
            console.print(f"  {diagnosis.engine} {line}", highlight=False, soft_wrap=True, markup=False)


def print_test(console: Console, test: SelfTest) -> None:
    """Print how a self-test went."""
    if not test.passed:
        text = f"  FAILED after {test.seconds:.0f} s: {test.error}"
        console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
        return
    lines = [f"  passed in {test.seconds:.0f} s: hw={test.hw} built in {test.build_s:.1f} s"]
    if test.boundaries:
        lines += [
            f"  outputs within {test.max_relative_error:.1e} of fp32 eager; {test.images_per_s:.0f} images/s, "
            f"{test.gain:.2f}x its off level",
            f"  boundaries: {', '.join(test.boundaries)}",
        ]
    if test.no_device:
        lines.append(f"  no device boundary: {test.no_device}")
    lines += [f"  {line}" for line in test.proof]
    lines += [f"  note: {note}" for note in test.notes]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Diagnosis:
    """What one engine can do on this machine; a text is the reason why not."""

    engine: str
    version: str
    cannot_build: str | None
    cannot_run: str | None
    details: tuple[str, ...] = ()  # of the installed package: where it lies, what its release lacks


def diagnose(device: str) -> list[Diagnosis]:
    """Return what each engine can do on `device`, in the order of their names' registration."""
    from harness import engines
    from harness.system.errors import UserError

    out = []
    for name in engines.names():
        try:
            engine = engines.get(name)
            can = engine.availability(device)
            out.append(Diagnosis(name, _version(engine), can.build, can.run, engine.details()))
        except UserError as error:
            out.append(Diagnosis(name, "-", str(error), str(error)))
    return out


def _version(engine: Engine) -> str:
    """Return the version of the package behind an engine, whether or not it can do anything here; "-" without one."""
    from harness.system.errors import UserError

    try:
        return engine.version()
    except UserError:
        return "-"


def visible_device() -> str:
    """Return `cuda` where torch sees a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
