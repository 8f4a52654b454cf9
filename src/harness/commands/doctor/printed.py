"""What the doctor prints: the machine, the table of engines, each self-test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.commands.doctor.diagnosis import Diagnosis
from harness.commands.doctor.self_test import SelfTest


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
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("engine", "version", "builds", "runs"):
        table.add_column(header, no_wrap=True)
    for one in found:
        able = ["no" if reason else "yes" for reason in (one.cannot_build, one.cannot_run)]
        table.add_row(one.engine, one.version, *able)
    console.print()
    console.print(table)
    for one in found:
        for what, reason in (("build", one.cannot_build), ("run", one.cannot_run)):
            if reason and not (what == "run" and reason == one.cannot_build):
                also = "build or run" if what == "build" and one.cannot_run == reason else what
                console.print(f"  {one.engine} can't {also}: {reason}", highlight=False, soft_wrap=True, style="yellow")
        for line in one.details:
            console.print(f"  {one.engine} {line}", highlight=False, soft_wrap=True, markup=False)


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
