"""`python -m harness.doctor`: which engines can build here, which can run, why the others can't, and do they work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from harness.commands.doctor.diagnosis import diagnose, visible_device
from harness.commands.doctor.printed import print_engines, print_machine, print_test
from harness.commands.doctor.self_test import SelfTest, self_test
from harness.system.command import CommandParser, run_command
from harness.system.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0, or 1 if an engine that can run fails its self-test."""
    return run_command("harness.doctor", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    from harness.system.quiet import quiet

    options = _parser().parse_args(arguments)
    quiet()
    from harness.system.machine import environment

    device = visible_device()
    found = diagnose(device)
    machine = environment()
    able = [one for one in found if one.cannot_build is None or one.cannot_run is None]
    chosen = [one for one in able if options.engine in (None, one.engine)]
    if options.engine is not None and not chosen:
        reason = next((one.cannot_build for one in found if one.engine == options.engine), "no such engine")
        raise UserError(f"{options.engine}: {reason}")
    console = Console(stderr=options.json)  # so that --json leaves nothing but JSON on the standard output
    if not options.json:
        print_machine(console, machine, device)
        print_engines(console, found)
    tests: list[SelfTest] = []
    if not options.no_test:
        for one in chosen:
            steps = "build, load, verify, capture, time" if one.cannot_run is None else "build"
            console.print(f"\nself-test of {one.engine}: {steps} ...", highlight=False)
            tests.append(self_test(one.engine, device, build_only=one.cannot_run is not None))
            print_test(console, tests[-1])
    if options.json:
        whole = {"machine": machine, "device": device, "engines": [asdict(one) for one in found]}
        print(json.dumps({**whole, "self_tests": [asdict(one) for one in tests]}, indent=1))
    return 0 if all(one.passed for one in tests) else 1


def _parser() -> CommandParser:
    parser = CommandParser("harness.doctor", description=__doc__)
    parser.add_argument("--engine", help="test this engine only")
    parser.add_argument("--no-test", action="store_true", help="only say what can be built and run")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser
