"""From the command line: train on digits, and measure cells that find their weights, with the accuracy they have."""

from __future__ import annotations

import pandas
import pytest

from called import called
from harness.engines.onnxruntime.runtime import has_vnni
from harness.report.command import main as report
from harness.results.record import NO_VNNI
from harness.tracking.load import load

SIGNS = {"": 1, "baseline/": 1, "arch/": -1, "hw/": -1}
DIGITS = ("model=densenet_tiny", "model.image_size=32", "data=digits")


@pytest.fixture(scope="module")
def training(command, tmp_path_factory):
    """Return a function: training("arch=grouped") -> what that `python -m harness.train` came to."""
    from harness.commands.train.command import main

    kept = tmp_path_factory.mktemp("trained")

    def run(*overrides):
        _, environment = command()
        store = [word for word in command()[0] if word.startswith("tracking.root=")]
        return called(main, [*DIGITS, *store, f"checkpoints.dir={kept}", *overrides], kept, environment)

    run.kept = kept
    return run


REFUSED = {
    "no labels": (["data=synthetic"], "no labels to learn from"),
    "other classes": (["model.num_classes=7"], "10 classes and model.num_classes=7"),
    "no epochs": (["train.epochs=0"], "at least 1"),
    "two trainings of one network": (["train.epochs=3,4"], "train.* differs between jobs that train the same network"),
    "unknown option": (["train.epoch=3"], "did you mean train.epochs?"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_trained_is_refused_before_any_work(case, training):
    overrides, says = REFUSED[case]
    done = training(*overrides)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert list(training.kept.iterdir()) == []


def test_a_measurement_takes_no_options_of_training(swept):
    done = swept("hw=fusion", "train.epochs=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "for python -m harness.train" in done.stderr


@pytest.mark.minutes
def test_what_was_not_trained_has_no_accuracy_and_says_so(training, swept, store_root):
    kept = f"checkpoints.dir={training.kept}/short"
    assert training(kept, "arch=none", "train.epochs=1", "train.batch_size=256").returncode == 0
    measured = swept(
        *DIGITS, kept, "sweep_name=half_trained", "arch=grouped", "hw=fusion", "engine=onnxruntime", "data.limit=40",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stdout + measured.stderr
    assert "no accuracy: arch, combined: grouped needs training" in measured.stdout
    row: pandas.Series = load("half_trained", f"sqlite:///{store_root}/mlflow.db").iloc[0]
    assert not {"accuracy/top1", "arch/accuracy/top1", "accuracy/drop", "arch/accuracy/drop"} & set(row.index)
    assert row["baseline/accuracy/top1"] > 0 and row["hw/accuracy/top1"] > 0
    assert row["accuracy/agreement"] > 0.9
    refused = training(kept, "arch=none", "train.epochs=2", "train.batch_size=256")
    assert refused.returncode == 2
    assert "trained with other settings (train.epochs=1, here 2)" in refused.stderr


@pytest.mark.minutes
def test_eight_bits_have_an_accuracy_of_their_own_and_one_together_with_the_architecture(
    training, swept, store_root, plain_environment
):
    kept, name = f"checkpoints.dir={training.kept}/short", "half_trained_int8"
    assert training(kept, "arch=none", "train.epochs=1", "train.batch_size=256").returncode == 0
    measured = swept(*DIGITS, kept, f"sweep_name={name}", "arch=pruned", "hw=int8", "engine=onnxruntime")
    assert measured.returncode == 0, measured.stdout + measured.stderr
    assert "int8: calibrated on 128 validation images (percentile)" in measured.stdout
    assert "combined: int8 in 19 of 21 convolutions and products; in float: 1 first layer, 1 last" in measured.stdout
    assert (NO_VNNI in measured.stdout) == (not has_vnni())
    row: pandas.Series = load(name, f"sqlite:///{store_root}/mlflow.db").iloc[0]
    together = sum(sign * row[f"{role}accuracy/top1"] for role, sign in SIGNS.items())
    assert row["interaction/accuracy"] == pytest.approx(together)
    assert row["interaction/accuracy_low"] <= together <= row["interaction/accuracy_high"]
    assert row["hw/accuracy/drop_low"] <= row["hw/accuracy/drop"] <= row["hw/accuracy/drop_high"]
    shown = called(report, [name, "--uri", str(store_root)], training.kept, plain_environment)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.minutes
@pytest.mark.timeout(3600)
def test_a_small_densenet_learns_digits_and_its_cells_have_that_accuracy(training, swept, store_root):
    done = training("arch=none,grouped", "train.epochs=28")
    assert done.returncode == 0, done.stderr
    measured = swept(
        *DIGITS, f"checkpoints.dir={training.kept}", "checkpoints.use=require", "sweep_name=trained",
        "arch=grouped", "hw=fusion", "engine=onnxruntime",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stdout + measured.stderr
    row: pandas.Series = load("trained", f"sqlite:///{store_root}/mlflow.db").iloc[0]
    assert row["baseline/accuracy/top1"] >= 0.97
    for prefix in ("arch/", "hw/", ""):
        assert row[f"{prefix}accuracy/top1"] >= 0.95
        assert row[f"{prefix}accuracy/agreement"] >= 0.99
    told = f"{row['baseline/accuracy/top1']:.2%}"  # training and measuring count the same
    assert f"logits {told}" in done.stdout
