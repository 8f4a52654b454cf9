"""Situations from public bug reports and from trials: each input gives its right answer, or one line and status 2.

The inputs lie in `tests/cases`; folders of images and long tables are made here, laid out as they were reported.
Numbers in the names are those of the reports. What was reported of a number (work counted, a class, a unit) is in the
unit tests.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from called import called
from harness.commands.capacity.command import main as capacity
from harness.sweep.main import main

CASES = Path(__file__).parents[1] / "cases"
TABLES = CASES / "tables"
NETWORK = ("model.image_size=64", "model.num_classes=10")
IMAGES = ("data=image_folder", "model=densenet_tiny", "model.image_size=32", "model.num_classes=2")


@pytest.fixture
def tried(command, tmp_path, monkeypatch):
    """Return a function: tried("model=n:half", "hw=fusion") -> status and output, where the cases' modules are."""
    monkeypatch.syspath_prepend(str(CASES))
    before = set(sys.modules)

    def run(*overrides):
        arguments, environment = command("engine.device=cpu", *overrides)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CASES), environment.get("PYTHONPATH")]))
        return called(main, arguments[arguments.index("harness") + 1 :], tmp_path, environment)

    yield run
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(CASES) in str(sys.modules[name].__file__):
            del sys.modules[name]


REFUSED = {
    "04 SAME padding": ("timm/tf_efficientnetv2_b0", "arch=grouped", "Conv2dSame", "does not compute what"),
    "05 a read-only property": ("n:prop", "arch=grouped", "nothing to group"),
    "11 half weights": ("n:half", "hw=fusion", "float16"),
    "12 sys.exit at import": ("quits:net", "hw=fusion", "quits.py"),
    "22 compiled": ("n:compiled", "hw=fusion", "compiled"),
    "22 DataParallel": ("n:dp", "hw=fusion", "DataParallel"),
    "23 dropout in evaluation": ("n:drop", "hw=fusion", "differently each time"),
    "26 a dict": ("n:dictout", "hw=fusion", "dict"),
    "26 a list": ("n:listout", "hw=fusion", "list"),
}


SLOW = {"04 SAME padding"}  # timm's largest import; its siblings are in test_understood


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.minutes if case in SLOW else ()) for case in REFUSED]
)
def test_a_network_that_can_not_be_measured_says_why_in_a_line(tried, case):
    network, asked, *said = REFUSED[case]
    done = tried(f"model={network}", asked, *NETWORK)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) <= 2 and lines[0].startswith("harness: "), done.stderr  # the second one asks or proposes
    assert all(text in done.stderr for text in said), done.stderr
    assert "\x1b" not in done.stderr and "Traceback" not in done.stderr


TAKEN = {
    "05 a size of its own": ("m:ownsize", "arch=grouped"),
    "05 a pair of sizes": ("m:pairsize", "arch=grouped"),
    "12 argparse at import": ("train_me:net", "hw=fusion"),  # its parser sees no arguments of ours
    "10 a cast in fp16": ("n:mask", "hw=fp16"),
    "14 a tensor as an attribute": ("n:plain", "hw=fusion"),
    "14 a tensor made in forward": ("n:pos", "hw=fusion"),
    "14 weight norm": ("n:wn", "hw=fusion"),
    "27 extra state": ("n:extra", "hw=fusion"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_network_that_runs_in_pytorch_is_planned(tried, case):
    network, asked = TAKEN[case]
    done = tried(f"model={network}", asked, *NETWORK, "dry_run=true")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.minutes
@pytest.mark.parametrize("case", TAKEN)
def test_a_network_that_runs_in_pytorch_is_measured(tried, case):
    network, asked = TAKEN[case]
    done = tried(f"model={network}", asked, *NETWORK)
    assert done.returncode == 0, done.stderr


def folder(root, *places, bits=8):
    """Write four images into each of the places below a root."""
    random = np.random.default_rng(0)
    for place in places:
        (root / place).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            image = Image.fromarray(pixels if bits == 8 else pixels[..., 0].astype(np.uint16) * 100)
            image.save(root / place / f"{number}.png")
    return root


def _stray(root):
    folder(root, "train/cat", "train/dog", "test/cat", "test/dog")
    (root / "__MACOSX").mkdir()


def _checkpoints(root):
    folder(root, "cat", "dog", "cat/.ipynb_checkpoints")


def _broken(root):
    folder(root, "cat", "dog")
    (root / "cat" / "x.jpg").symlink_to(root / "nowhere.jpg")


def _latin(root):
    folder(root, "cat", "dog")
    os.link(os.fsencode(root / "cat" / "0.png"), os.fsencode(root / "cat") + b"/caf\xe9.png")


FOLDERS = {
    "06 Train and Test": lambda root: folder(root, "Train/cat", "Train/dog", "Test/cat", "Test/dog"),
    "06 a stray __MACOSX": _stray,
    "09 sixteen bits": lambda root: folder(root, "bright", "dim", bits=16),
    "13 copies of a notebook": _checkpoints,
    "16 a name in Latin-1": _latin,
    "17 a broken link": _broken,
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_images_as_people_have_them_has_two_classes(tried, tmp_path, case):
    FOLDERS[case](tmp_path / "images")
    done = tried(*IMAGES, f"data.path={tmp_path / 'images'}", "hw=fusion", "dry_run=true")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


CAPACITY = {
    "07 a decimal comma in a trace": ("--trace", "deccomma.csv", 2, "deccomma.csv"),
    "07 a decimal comma in a day": ("--profile", "daydec.csv", 2, "daydec.csv"),
    "07 a comma at the end of each row": ("--trace", "trail.csv", 0, ""),
    "18 a million million images": ("--trace", "bigimg.csv", 2, "bigimg.csv"),
    "18 a gap of 56 years": ("--trace", "zeroepoch.csv", 2, "zeroepoch.csv"),
    "18 two arrivals in a microsecond": ("--trace", "burst1.csv", 0, ""),
}


@pytest.mark.parametrize("case", CAPACITY)
def test_a_table_as_people_have_it_gives_a_number_or_a_line(plain_environment, tmp_path, case):
    option, table, status, said = CAPACITY[case]
    arguments = [str(TABLES / "study.json"), option, str(TABLES / table), "--no-simulate"]
    done = called(capacity, arguments, tmp_path, plain_environment)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("writes", ["0,000037", "0.000037,1"], ids=["decimal comma", "a second column without a name"])
def test_07_a_long_trace_is_never_read_with_its_columns_shifted(plain_environment, tmp_path, writes):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s\n" + "".join(f"{writes[:-1]}{row % 10}\n" for row in range(1000)))
    done = called(
        capacity, [str(TABLES / "study.json"), "--trace", str(trace), "--no-simulate"], tmp_path, plain_environment
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stdout


SAID = {
    "25 a tilde": (("model.weights=~/best.pt",), 'model.weights="~/best.pt"'),
    "25 an umlaut": (("sweep_name=größe",), 'sweep_name="größe"'),
    "29 a store in memory": (("tracking.uri=sqlite://",), "tracking.uri"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_was_typed_is_answered_with_what_to_type(tried, case):
    overrides, said = SAID[case]
    done = tried(*overrides, "hw=fusion")
    assert done.returncode == 2 and said in done.stderr, done.stderr
