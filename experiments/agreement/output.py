"""What a run leaves behind: results.csv, rounds.csv and environment.json, each written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from reading import Absent, Reading
from summary import Row

from harness.system.machine import environment

DIGITS = "%.6g"


def folder_name(device: str, engine: str) -> str:
    """Return how the results of this machine are called: cpu_eager, h200_inductor."""
    gpu = environment()["gpu"] if device == "cuda" else None
    machine = re.sub(r"[^a-z0-9]+", "_", gpu["name"].lower()).removeprefix("nvidia_").strip("_") if gpu else device
    return f"{machine}_{engine}"


def write(
    folder: Path, rows: Sequence[Row], absent: Sequence[Absent], readings: Sequence[Reading], facts: Mapping[str, Any]
) -> None:
    """Write the three files; an absent clock is a row with its reason."""
    folder.mkdir(parents=True, exist_ok=True)
    rounds = pandas.DataFrame([{**asdict(one), "ratio": one.ratio} for one in readings])
    named = [
        {"clock": one.clock, "boundary": one.boundary, "absent": one.reason, "ok": False if one.broken else None}
        for one in absent
    ]
    results = pandas.DataFrame([*({**asdict(row), "absent": ""} for row in rows), *named])
    _whole(folder / "results.csv", results.to_csv(index=False, float_format=DIGITS))
    _whole(folder / "rounds.csv", rounds.to_csv(index=False, float_format=DIGITS))
    _whole(folder / "environment.json", json.dumps({**environment(), **facts}, indent=1) + "\n")


def _whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    os.replace(temporary, path)
