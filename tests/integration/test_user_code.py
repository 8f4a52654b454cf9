"""What a user's code runs into or does by itself, whole sweeps: secrets stay unseen, our places stay where they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from called import called
from harness.report.command import main as report
from harness.sweep.main import main

TOKEN, PASSWORD = "canary-8c1f-token", "canary/7@b2-word"
LEAKY = """
import multiprocessing
import os
from torch import nn

def leaky(num_classes):
    if multiprocessing.parent_process() is not None:
        raise RuntimeError(f"401 for {os.environ['CANARY_TOKEN']} at {os.environ['CANARY_STORE']}")
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def _arguments_of_all_processes(found: set[bytes], over: threading.Event) -> None:
    while not over.wait(0.05):
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.add(file.read_bytes())
            except OSError:
                continue


def test_a_secret_is_nowhere_to_be_found(command, new_store, tmp_path, tmp_path_factory, monkeypatch):
    root, cwd, elsewhere = new_store(), tmp_path / "cwd", tmp_path_factory.mktemp("site")
    cwd.mkdir()
    (elsewhere / "leaky_networks.py").write_text(LEAKY)
    monkeypatch.syspath_prepend(elsewhere)
    arguments, environment = command(
        "model=leaky_networks:leaky", "hw=fusion", f"tracking.root={root}", "tracking.report=true",
        "model.image_size=64", "model.num_classes=10",
    )  # fmt: skip
    path = os.pathsep.join([str(elsewhere), str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
    address = f"postgresql://me:{PASSWORD}@host/db"
    environment |= {"PYTHONPATH": path, "CANARY_TOKEN": TOKEN, "CANARY_STORE": address, "TMPDIR": str(tmp_path)}
    seen: set[bytes] = set()
    over = threading.Event()
    watcher = threading.Thread(target=_arguments_of_all_processes, args=(seen, over))
    watcher.start()
    try:
        done = called(main, arguments[arguments.index("harness") + 1 :], cwd, environment)
        shown = called(report, ["--uri", str(root)], cwd, environment)
    finally:
        over.set()
        watcher.join()
    assert done.returncode == 1 and "401 for *** at postgresql://***@host/db" in done.stdout, done
    texts = [done.stdout, done.stderr, shown.stdout, shown.stderr]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    kept += [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert len(kept) > 2 and seen
    for secret in (TOKEN, PASSWORD, "7@b2-word"):
        assert [text for text in texts if secret in text] == []
        assert [data[:200] for data in [*kept, *seen] if secret.encode() in data] == []


MOVING = """
import os
import tempfile
from torch import nn

def move(name):
    folder = os.path.join(os.environ["ELSEWHERE"], name)
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    for variable in ("HARNESS_CACHE", "HARNESS_LOCK_DIR", "TMPDIR"):
        os.environ[variable] = folder
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"

move("imported")

def moving(num_classes):
    assert os.path.basename(os.getcwd()) in ("imported", "made")  # where it went is where it finds itself again
    move("made")
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def test_code_that_changes_folder_and_environment_moves_neither_store_nor_cache(command, tmp_path, monkeypatch):
    cwd, site, elsewhere = (tmp_path / name for name in ("cwd", "site", "elsewhere"))
    for folder in (cwd, site, elsewhere):
        folder.mkdir()
    (site / "moving_networks.py").write_text(MOVING)
    monkeypatch.syspath_prepend(site)
    arguments, environment = command("model=moving_networks:moving", "hw=fusion", "model.image_size=64",
                                     "model.num_classes=10", "tracking.root=store", "cache.dir=kept")  # fmt: skip
    path = os.pathsep.join([str(site), environment.get("PYTHONPATH", "")])
    environment |= {"PYTHONPATH": path, "ELSEWHERE": str(elsewhere)}
    done = called(main, arguments[arguments.index("harness") + 1 :], cwd, environment)
    assert done.returncode == 0, done
    assert sorted(path.name for path in cwd.iterdir()) == ["kept", "store"]
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
