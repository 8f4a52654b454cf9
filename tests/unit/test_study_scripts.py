"""The scripts of the studies, which run on rented hours: every sweep that one of them would start composes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.parent.name for path in (REPOSITORY / "experiments").glob("*/run.sh"))
STANDING_IN = """#!/bin/bash
line=$(printf '%q ' "$@")
echo "$line" >> "$ASKED"
"""
ARCHES = ("none", "pruned", "early_exit", "reduced_growth", "low_rank", "grouped")  # that the digits are learned with


@pytest.fixture
def asked(tmp_path):
    """Return a function: asked(study) -> what its script would have Python do, in every part that its head names."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"python3": STANDING_IN, "sleep": "#!/bin/sh\n", "nvidia-smi": "#!/bin/sh\nexit 1\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(study):
        shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments", ignore=_without_data)
        for arch in ARCHES:
            trained = tmp_path / "checkpoints" / f"densenet121-{arch}-digits-0" / "model.safetensors"
            trained.parent.mkdir(parents=True)
            trained.touch()
        script = tmp_path / "experiments" / study / "run.sh"
        parts = re.search(r"PARTS='([^']+)'", script.read_text().partition("set -uo")[0])
        environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked"),
            **({"PARTS": parts[1]} if parts else {}),
        }  # fmt: skip
        environment = {name: value for name, value in environment.items() if name not in ("FOLDER", "LANES", "MORE")}
        argument = str(tmp_path / "out") if study == "two_gpus" else "100000"
        done = subprocess.run(
            ["bash", str(script), argument], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "unbound variable" not in done.stderr + done.stdout
        return [shlex.split(line) for line in (tmp_path / "asked").read_text().splitlines()]

    return run


def _without_data(folder, names):
    return [name for name in names if Path(folder, name).is_file() and not name.endswith((".sh", ".py"))]


@pytest.mark.minutes
@pytest.mark.parametrize("study", SCRIPTS)
def test_every_sweep_of_a_studys_script_composes(study, asked):
    from harness.sweep.command_line import compose_jobs

    sweeps = [words[2:] for words in asked(study) if words[:2] == ["-m", "harness"]]
    assert sweeps
    for words in sweeps:
        known = ["arch=grouped" if word == "arch=resnext" else word for word in words]  # a plug-in of that study's own
        assert compose_jobs([word for word in known if word not in ("-m", "--multirun")]), words
