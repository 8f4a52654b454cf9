"""A cell's accuracy is what its own engine gives, equal to what a short script gets of the same exported model."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from harness.config import ProtocolConfig
from harness.measure.bring_up import bring_up
from harness.measure.coordinator import workers
from harness.measure.predictions import Predictions, answers_of, predict
from harness.measure.progress import Silent
from harness.networks.data import open_dataset
from harness.results.accuracy import answer_metrics, answer_table
from harness.techniques.arch.stages import NetworkOutputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answered(prepared):
    """Return (cells, answers) of a real quartet on digits: two cells in eager, two on ONNX Runtime."""
    _, cells = prepared(
        "data=digits", "model.image_size=32", "arch=early_exit", "arch.early_exit.threshold=0.27", "hw=fusion",
        "batch_size=64",
    )  # fmt: skip
    todo = list(cells.values())
    with workers(todo) as handles:
        bring_up(todo, handles, ProtocolConfig(), Silent())
        found = {role: answers_of(cell, handles[role], ProtocolConfig(), Silent()) for role, cell in cells.items()}
        return cells, found


def by_hand(graph, names):
    """The script: scikit-learn's digits, scaled up and normalised, through the exported model."""
    places = [int(name.removeprefix("digit ")) for name in names]
    digits = load_digits()
    session = ort.InferenceSession(graph)
    small = [Image.fromarray(np.round(digits.images[i] * 255 / 16).astype(np.uint8)).convert("RGB") for i in places]
    pixels = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) for image in small])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    answers = session.run(["logits"], {"input": inputs})[0].argmax(axis=1)
    return answers, float((answers == digits.target[places]).mean())


def test_the_accuracy_of_a_cell_is_what_a_short_script_with_the_exported_model_gives(answered, configured):
    cells, answers = answered
    names = open_dataset(configured("data=digits").data).parts["test"].names
    theirs, top1 = by_hand(cells["hw"].artifacts[0].plan.graph.path, names)
    metrics = answer_metrics(answers, cells["hw"].labelled, 0.95)
    assert metrics["hw/accuracy/top1"] == top1
    assert np.array_equal(answers["hw"].cell.ranked[:, 0], theirs)


def test_every_cell_has_accuracy_interval_and_agreement_with_its_own_network(answered):
    cells, answers = answered
    metrics = answer_metrics(answers, cells["hw"].labelled, 0.95)
    for prefix in ("baseline/", "arch/", "hw/", ""):
        low, value, high = (metrics[f"{prefix}accuracy/{name}"] for name in ("top1_low", "top1", "top1_high"))
        assert low < value < high
        assert metrics[f"{prefix}accuracy/images"] == 359
        assert metrics[f"{prefix}accuracy/agreement"] > 0.98  # fp32 on another engine rounds otherwise, no more
        assert 0 < metrics[f"{prefix}accuracy/top5"] <= 1
    assert metrics["baseline/accuracy/agreement"] == 1  # it is fp32 eager itself
    assert metrics["accuracy/drop"] == pytest.approx(metrics["baseline/accuracy/top1"] - metrics["accuracy/top1"])


def test_early_exits_answers_are_the_head_s_that_each_sample_was_sent_to(answered):
    cells, answers = answered
    own = answers["combined"].cell
    assert 0 < (own.left_after == 0).sum() < 359
    chosen = np.where(own.left_after == 0, own.heads["exit_logits"], own.heads["logits"])
    assert np.array_equal(own.ranked[:, 0], chosen)
    assert "combined_exited" in answer_table(answers, cells["hw"].labelled)


def test_images_that_fill_up_the_last_batch_are_not_counted_twice(answered):
    test = answered[0]["hw"].labelled.test
    seen = []

    def run(inputs):
        seen.append(len(inputs))
        logits = inputs.reshape(len(inputs), -1)[:, :10]
        return NetworkOutputs({"logits": logits}, logits)

    found = predict(test, 100, run)
    assert seen == [100, 100, 100, 100]
    assert isinstance(found, Predictions)
    assert found.ranked.shape == (359, 5)
    assert np.array_equal(found.ranked, predict(test, 359, run).ranked)
