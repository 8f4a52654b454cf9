"""int8 with what it can't use, from the command line: a clear line and a status, and nothing half-made in the cache."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from harness import load
from warm_starts import Popen

NETWORKS = """
import torch
from torch import nn

@torch.library.custom_op("int8_bad_inputs::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x

@twice.register_fake
def _(x):
    return torch.empty_like(x)

class Twice(nn.Module):
    def forward(self, x):
        return twice(x)

def plain(num_classes, between=nn.ReLU):
    convolutions = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), between())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))

def custom(num_classes):
    return plain(num_classes, Twice)
"""
SIZE = ("model.num_classes=10", "model.image_size=32")
INT8 = ("hw=int8", "engine=onnxruntime", "engine.build_only=true", "hw.int8.images=8", "reference=engine")


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Let `model=int8_networks:plain` be two convolutions, and `custom` have an operation of its author's."""
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / "int8_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def folder_data(tmp_path):
    """Return a function: folder_data({"val": 4}) -> options of a folder with as many images a part and class.

    Each image has another size, none that of the network.
    """

    def make(counts, broken=()):
        random = np.random.default_rng(0)
        for part, count in {"train": 1, "test": 2, **counts}.items():
            for number in range(2 * count):
                path = tmp_path / "data" / part / "ab"[number % 2] / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                height, width = random.integers(9, 120, 2)
                Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
                if part in broken:
                    path.write_bytes(b"not an image")
        return "data=image_folder", f"data.path={tmp_path / 'data'}", "model.num_classes=2"

    return make


def halves(cache_root) -> list[str]:
    """Return what is in a cache and is no whole entry."""
    return [path.name for path in cache_root.rglob(".*")] + [
        path.name for path in cache_root.glob("*/*/*/") if not (path / "manifest.json").is_file()
    ]


def test_without_a_validation_image_it_is_refused_before_any_work(swept, folder_data, new_store):
    data = folder_data({"val": 0, "train": 0})
    done = swept(*INT8, *data, f"tracking.root={new_store()}", "data.split_shares=[1,0,1]")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "harness: hw=int8: data=image_folder has 0 validation images; it takes at least 2, to calibrate on and to "
        "verify with: see data.split_shares.\n"
    )


def test_validation_images_that_cannot_be_read_fail_the_quartet_with_a_name(swept, folder_data, new_store):
    done = swept(*INT8, *folder_data({"val": 2}, broken=("val",)), f"tracking.root={new_store()}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED: image_folder" in done.stdout
    assert "of 4 validation images none could be read: val/a/0.png: UnidentifiedImageError" in done.stdout


def test_images_of_any_size_are_calibrated_on_at_the_size_of_the_network(swept, folder_data, new_store):
    root = new_store()
    done = swept(*INT8, *folder_data({"val": 4}), "sweep_name=sizes", f"tracking.root={root}")
    assert done.returncode == 0, done.stdout
    (row,) = load("sizes", str(root)).to_dict("records")
    assert "int8: calibrated on 6 validation images (percentile)" in row["note"]  # of 8: the others verify
    assert row["hw/build/layers_in_precision"] == row["hw/build/layers_weighted"] - 2 == 19


def test_a_network_with_an_operation_of_its_own_fails_by_its_name(swept, new_store, networks):
    done = swept(*INT8, *SIZE, "model=int8_networks:custom", f"tracking.root={new_store()}")
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[1/1]")]
    assert "FAILED: export to ONNX failed: DispatchError: No ONNX function found for <OpOverload(op=" in line
    assert "int8_bad_inputs.twice" in line


def test_a_cache_that_nobody_can_write_is_refused_before_any_work(swept, new_store):
    done = swept(*INT8, "cache.dir=/proc/nowhere", f"tracking.root={new_store()}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("harness: cache.dir=/proc/nowhere: can't write there (")
    assert len(done.stderr.splitlines()) == 1


def test_a_cache_that_refuses_the_calibrated_graph_fails_the_quartet(swept, new_store, networks, tmp_path, monkeypatch):
    """As where the disk was mounted read-only meanwhile: root may write wherever permissions forbid it."""
    from harness.engines import export

    save = export._save

    def refusing(model, request, folder):
        if request.calibration is not None:
            raise OSError(30, "Read-only file system", str(folder))
        return save(model, request, folder)

    monkeypatch.setattr(export, "_save", refusing)
    own = tmp_path / "cache"
    words = (*INT8, *SIZE, "model=int8_networks:plain", f"tracking.root={new_store()}")
    done = swept(*words, cache_dir=own)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[1/1]")]
    assert "FAILED: OSError: [Errno 30] Read-only file system" in line
    assert halves(own) == []
    monkeypatch.undo()
    assert swept(*words, cache_dir=own).returncode == 0


def test_ctrl_c_while_calibrating_is_answered_within_a_second_and_leaves_nothing(
    command, new_store, networks, tmp_path
):
    own, temporary, cwd = tmp_path / "cache", tmp_path / "temporary", tmp_path / "cwd"
    for folder in (temporary, cwd):
        folder.mkdir()
    long = ("model=int8_networks:plain", *SIZE, "hw.int8.images=10000", f"tracking.root={new_store()}")
    arguments, environment = command(*INT8[:3], *long, cache_dir=own)
    environment["PYTHONPATH"] = os.pathsep.join([str(networks), environment.get("PYTHONPATH", "")])
    with Popen(
        arguments, cwd=cwd, env={**environment, "TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            while not list(own.glob("export/*/.*/*/harness-int8-*")):
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            before = time.perf_counter()
            process.send_signal(signal.SIGINT)
            answer = process.stderr.readline()
            answered_s = time.perf_counter() - before
            process.communicate(timeout=20)
        except BaseException:
            process.kill()
            raise
    assert answered_s < 1
    assert process.returncode == 130
    assert answer.startswith("harness: interrupted: 0 of 1 quartet done. To resume, run the same command: ")
    assert halves(own) == [] and list(cwd.iterdir()) == []
    assert not [path.name for path in temporary.iterdir() if "quant" in path.name or "int8" in path.name]
