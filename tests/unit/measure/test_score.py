"""Shares and drops with their intervals; what an early exit's samples and heads get right."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.measure.cell import CellAnswers
from harness.measure.predictions import Predictions
from harness.results.accuracy import accuracy_interaction, accuracy_metrics, answer_metrics, drop, share
from harness.techniques.arch.exit_policy import ExitPolicy

LABELS = np.array([0, 1, 2, 3, 4, 5])


def ranked(*first):
    """Return predictions of ten classes whose best are `first`, then 9, 8, 7, 6."""
    return np.array([[one, 9, 8, 7, 6] for one in first])


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (348, 359), (1, 3), (50_000, 50_000)])
def test_the_interval_of_a_share_is_wilsons(right, count):
    found = share(np.arange(count) < right)
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx(
        (right / count, expected.low, expected.high), abs=1e-12
    )
    assert found.low <= found.value <= found.high


def test_a_share_of_nothing_is_no_share():
    with pytest.raises(ValueError, match="no images"):
        share(np.zeros(0, dtype=bool))


def test_a_drop_is_paired_so_that_what_both_get_wrong_does_not_widen_it():
    generator = np.random.default_rng(0)
    baseline = generator.random(2000) < 0.7
    other = baseline & (generator.random(2000) > 0.02)
    found = drop(baseline, other)
    assert found.value == pytest.approx(baseline.mean() - other.mean())
    assert found.low < found.value < found.high
    unpaired = share(baseline).high - share(baseline).low
    assert found.high - found.low < unpaired / 2


def test_the_interval_of_a_drop_holds_what_it_promises():
    """Of 400 samples of pairs with a true drop of 3 points, about 95% of the intervals hold it (binomial sd 1.1%)."""
    generator, hits = np.random.default_rng(1), 0
    for _ in range(400):
        baseline = generator.random(359) < 0.97
        other = np.where(baseline, generator.random(359) > 0.035, generator.random(359) < 0.1317)
        found = drop(baseline, other)
        hits += found.low <= 0.97 * 0.035 - 0.03 * 0.1317 <= found.high
    assert 0.91 <= hits / 400 <= 0.99


def test_top1_top5_and_agreement_are_counted_for_each_image():
    own = Predictions(ranked(0, 1, 2, 0, 0, 0))
    own.ranked[3] = [0, 3, 8, 7, 6]  # right at the second place
    eager = Predictions(ranked(0, 1, 5, 0, 0, 1))
    found = accuracy_metrics(own, eager, LABELS, classes=10)
    assert found["accuracy/top1"] == 3 / 6
    assert found["accuracy/top5"] == 4 / 6
    assert found["accuracy/agreement"] == 4 / 6
    assert found["accuracy/top1_low"] < 0.5 < found["accuracy/top1_high"]


def test_of_five_classes_there_is_no_top5():
    own = Predictions(np.argsort(np.eye(5), axis=1)[:, ::-1])
    assert not any("top5" in name for name in accuracy_metrics(own, own, np.arange(5), classes=5))


def test_an_early_exit_reports_those_that_left_and_those_that_stayed_and_each_head():
    exited = np.array([True, True, False, False, False, False])
    heads = {"exit_logits": np.array([0, 9, 9, 9, 9, 9]), "logits": np.array([0, 1, 2, 3, 4, 9])}
    final = np.where(exited, heads["exit_logits"], heads["logits"])
    own = Predictions(ranked(*final), heads, np.where(exited, 0, 1), ExitPolicy("share", 0.5))
    found = accuracy_metrics(own, own, LABELS, classes=10)
    assert found["accuracy/exit_share"] == 2 / 6
    assert found["accuracy/exited_top1"] == 1 / 2
    assert found["accuracy/stayed_top1"] == 3 / 4
    assert found["accuracy/top1"] == 4 / 6  # overall, at this threshold
    assert (found["accuracy/exit_head_top1"], found["accuracy/last_head_top1"]) == (1 / 6, 5 / 6)


def test_of_untrained_weights_nothing_is_said_but_what_holds_for_any():
    exited = np.array([True, True, False, False, False, False])
    heads = {"exit_logits": LABELS, "logits": LABELS}
    own = {role: Predictions(ranked(*LABELS)) for role in ("baseline", "hw")}
    own |= {role: Predictions(ranked(*LABELS), heads, np.where(exited, 0, 1), ExitPolicy("share", 0.5))
            for role in ("arch", "combined")}  # fmt: skip
    images = SimpleNamespace(labels=lambda: LABELS, count=6, classes=10, skipped=())
    answers = {role: CellAnswers(predictions, predictions) for role, predictions in own.items()}
    data = SimpleNamespace(test=images)
    found = answer_metrics(answers, data, 0.95, untrained=("arch", "combined"))
    kept = {"accuracy/agreement", "accuracy/images", "accuracy/exit_share"}
    assert {name for name in found if name.startswith("accuracy/")} == kept
    assert {name for name in found if name.startswith("arch/")} == {f"arch/{name}" for name in kept}
    assert {"baseline/accuracy/top1", "hw/accuracy/top1", "hw/accuracy/drop"} <= set(found)
    lost = answer_metrics(answers, data, 0.95, untrained=("baseline",))
    assert not any("drop" in name for name in lost)  # against a random network there is nothing to lose
    assert {"accuracy/top1", "arch/accuracy/top1", "accuracy/last_head_top1"} <= set(lost)


def test_where_nobody_left_there_is_no_accuracy_of_those_that_did():
    heads = {"exit_logits": LABELS, "logits": LABELS}
    own = Predictions(ranked(*LABELS), heads, np.ones(6, dtype=int), ExitPolicy("share", 0.0))
    found = accuracy_metrics(own, own, LABELS, classes=10)
    assert "accuracy/exited_top1" not in found
    assert found["accuracy/stayed_top1"] == 1


def answers(**right: list[int]) -> dict[str, np.ndarray]:
    return {role: np.array(found, dtype=bool) for role, found in right.items()}


def test_two_changes_that_lose_the_same_images_cost_less_together_than_their_sum():
    found = accuracy_interaction(
        answers(baseline=[1, 1, 1, 1], arch=[0, 1, 1, 1], hw=[0, 1, 1, 1], combined=[0, 1, 1, 1])
    )
    assert found.value == 0.25
    assert found.low < 0.25 < found.high


def test_two_changes_that_each_lose_nothing_and_together_do_have_a_negative_interaction():
    n = 400
    combined = np.ones(n, dtype=bool)
    combined[:40] = False
    right = {"baseline": np.ones(n, bool), "arch": np.ones(n, bool), "hw": np.ones(n, bool), "combined": combined}
    found = accuracy_interaction(right)
    assert found.value == -0.1
    assert found.high < 0
    # with two cells that never err it is a drop with another sign: the same interval
    lost = drop(right["baseline"], combined)
    assert (found.low, found.high) == pytest.approx((-lost.high, -lost.low))


def test_an_interaction_where_all_agree_still_has_a_width():
    same = np.ones(50, dtype=bool)
    found = accuracy_interaction(dict.fromkeys(("baseline", "arch", "hw", "combined"), same))
    assert found.value == 0
    assert -0.1 < found.low < 0 < found.high < 0.1
