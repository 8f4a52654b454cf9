"""A network on token ids and a mask, whole sweeps: measured, verified and logged, or refused before any work."""

from __future__ import annotations

import json

import pytest

from harness.tracking.load import load

TAGGER = ("model=token_networks:tagger", "model.num_classes=10")


def row_of(store_root):
    """Return the row of the last sweep, and the folder of its artifacts."""
    frame = load(None, f"sqlite:///{store_root / 'mlflow.db'}")
    assert frame["status"].tolist() == ["FINISHED"]
    row = frame.iloc[0]
    return row, store_root / "artifacts" / row["run_id"] / "artifacts"


@pytest.mark.minutes
def test_it_is_measured_and_every_output_verified_and_the_row_says_why_there_is_no_accuracy(swept, store_root):
    done = swept(*TAGGER, "arch=low_rank", "hw=fusion", "engine=onnxruntime")
    assert done.returncode == 0, done.stdout + done.stderr
    row, artifacts = row_of(store_root)
    assert "no accuracy: token_networks:tagger says by `inputs` what it takes, which has no labels" in row["note"]
    assert "image_size" not in row.dropna()
    assert row["sample"] == "sample" and row["unit"] == "samples/s"
    assert "images/s" not in done.stdout and "samples/s" in done.stdout
    assert row["fidelity/max_relative"] < 2e-3
    assert row["interaction/factor"] > 0
    (stage,) = json.loads((artifacts / "interaction.json").read_text())["cells"]["combined"]["stages"]
    assert stage["inputs"] == ["ids [B, 12] int64", "mask [B, 12] bool"]
    assert stage["outputs"] == ["scores [B, 10] float32", "tokens [B, 12, 32] float32"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("arch=early_exit", "hw=fusion"),
            "arch=early_exit: it needs a network on square images, and Tagger takes ids",
        ),
        (("hw=fusion", "data=digits"), "data=digits is of labelled images, and model=token_networks:tagger says"),
        (("hw=fusion", "scenario=offline"), "a request is answered with one tensor, and model=token_networks:tagger"),
    ],
)
def test_what_it_can_t_be_measured_with_is_refused_before_any_work(swept, overrides, said):
    done = swept(*TAGGER, "engine=onnxruntime", *overrides)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr


@pytest.mark.minutes
def test_it_serves_requests(swept, store_root):
    done = swept(
        "model=token_networks:scorer", "hw=dynamic_batching", "engine=onnxruntime", "reference=engine",
        "scenario=offline", "engine.threads=1", "scenario.min_duration_s=0.5", "scenario.max_duration_s=4",
        "scenario.repeats=2", "scenario.sample_count=8", "scenario.percentile=90",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    row, _ = row_of(store_root)
    assert row["hw/throughput/offline"] > 1  # without an arch technique there is no combined cell
