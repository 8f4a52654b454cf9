"""A real export: built, taken away, and run by a process that has no `harness`, from a copy elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from harness.commands.export.command import main
from harness.sweep.main import main as measure

WITHOUT = """
import sys, runpy
sys.modules["harness"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("arch", "stages"), [("grouped", 1), ("early_exit", 2)])
def test_what_is_taken_away_answers_the_same_without_this_project(arch, stages, tmp_path, monkeypatch, cache, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["model=densenet_tiny", "batch_size=2", "engine=onnxruntime", f"cache.dir={cache.root}"]
    assert measure([*common, f"arch={arch}", "hw=fusion", "engine.build_only=true", "sweep_name=built"]) == 0
    assert main(["built", "combined", "winner"]) == 0, capsys.readouterr()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns", "winner"]

    elsewhere = tmp_path / "elsewhere" / "winner"
    shutil.copytree("winner", elsewhere)
    about = json.loads((elsewhere / "model.json").read_text())
    assert len(about["stages"]) == stages
    assert about["inputs"] == [{"name": "input", "shape": ["batch", 3, 64, 64], "dtype": "float32"}]
    assert about["engine"]["travels"] and about["precision"] == "fp32"
    assert (about["router"] is None) == (stages == 1)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "loader.py", "check_inputs.npz", "answers.npz"],
        cwd=elsewhere, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(elsewhere / "answers.npz") as answers, np.load(elsewhere / "check_outputs.npz") as expected:
        assert np.abs(answers["logits"] - expected["logits"]).max() < 1e-5
        assert answers["logits"].shape == (2, 10)
    from safetensors.numpy import load_file

    assert load_file(elsewhere / "weights.safetensors")
