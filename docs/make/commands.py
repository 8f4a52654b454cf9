"""The page of commands: what each says to --help, asked when the site is built."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAMES = (
    "harness", "harness.report", "harness.ui", "harness.train", "harness.capacity", "harness.export", "harness.doctor",
)  # fmt: skip
# what would show in the help of whoever builds
SETTINGS = ("HARNESS_CACHE", "HARNESS_SHARED_CACHE", "MLFLOW_TRACKING_URI")


def page(source: Path) -> str:
    """Return the page as Markdown; `source` is the package's folder."""
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda name: help_of(name, source), NAMES))
    parts = [INTRODUCTION]
    for name, text in zip(NAMES, texts, strict=True):
        parts += [f"## python -m {name}", "", "```text", text.strip(), "```", ""]
    parts += ["## make", "", "```text", _targets(source.parents[1]), "```", ""]
    return "\n".join(parts)


def help_of(name: str, source: Path) -> str:
    """Return what `python -m NAME --help` prints, at a width of 100 columns."""
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    environment |= {"COLUMNS": "100", "PYTHONPATH": str(source.parent), "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def _targets(repository: Path) -> str:
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=repository, capture_output=True, text=True)
    return done.stdout.rstrip() if done.returncode == 0 else "make is not there"


INTRODUCTION = """\
# Commands

Asked of each command when this site is built. Exit status of all: 0 fine; 1 something failed, or a gate found what it
looks for; 2 the request was wrong and nothing was done; 3 a gate could not tell and `--undecided fail` was given; 130
interrupted.
"""
