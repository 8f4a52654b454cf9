"""The best combination: the fastest that is known to keep within the limits, and what nothing beats."""

from __future__ import annotations

from harness.report.choose import Limits, choose
from harness.report.quartets import quartets


def labels(candidates):
    return {f"{one.label} b{one.batch_size}" for one in candidates}


def test_without_limits_the_fastest_cell_wins(row, frame):
    rows = quartets(frame(row(), row(hw="fp16", speeds=(100, 150, 120, 400))))
    assert choose(rows, Limits()).best.label == "grouped + fp16"


def test_a_limit_rules_out_what_is_above_it_and_what_was_not_measured(row, frame):
    rows = quartets(frame(row(), row(hw="fp16", speeds=(100, 150, 120, 400), **{"latency_ms/p99": None})))
    choice = choose(rows, Limits(max_p99_ms=30))
    assert choice.best.label == "grouped + fusion"
    reasons = {one.label: reason for one, reason in choice.refused}
    assert reasons["grouped + fp16"] == "p99 was not measured"
    assert reasons["baseline"] == "p99 80 ms is above 30 ms"


def test_an_accuracy_limit_keeps_nothing_where_accuracy_is_unknown(row, frame):
    choice = choose(quartets(frame(row())), Limits(max_accuracy_drop=0.01))
    assert choice.best is None
    assert {reason for _, reason in choice.refused} == {"accuracy drop was not measured"}


def test_a_cell_of_untrained_weights_is_refused_with_that_reason(row, frame):
    tested = {"baseline/accuracy/top1": 0.9, "hw/accuracy/top1": 0.9}
    found = quartets(frame(row(**tested, untrained="arch, combined: grouped needs training")))
    choice = choose(found, Limits(max_accuracy_drop=0.01))
    reasons = {one.label: reason for one, reason in choice.refused}
    assert reasons["grouped + fusion"] == "accuracy drop was not measured (untrained weights)"
    assert choice.best.label == "fusion"
    assert found[0].remarks[0] == "no accuracy: arch, combined: grouped needs training"


def test_a_known_accuracy_drop_is_against_the_baseline_beside_it(row, frame):
    top1 = {"baseline/accuracy/top1": 0.9, "arch/accuracy/top1": 0.85, "hw/accuracy/top1": 0.9, "accuracy/top1": 0.84}
    choice = choose(quartets(frame(row(**top1))), Limits(max_accuracy_drop=0.01))
    assert choice.best.label == "fusion"


def test_a_cell_whose_answers_collapsed_is_shown_and_not_recommended_unless_a_limit_allows_it(row, frame):
    top1 = {"baseline/accuracy/top1": 0.9, "arch/accuracy/top1": 0.85, "hw/accuracy/top1": 0.9, "accuracy/top1": 0.5}
    found = quartets(frame(row(**top1)))
    choice = choose(found, Limits())
    assert choice.best.label == "fusion"
    reasons = {one.label: reason for one, reason in choice.refused}
    assert reasons == {"grouped + fusion": "accuracy drop 0.4: its answers collapsed (above 0.1)"}
    assert choose(found, Limits(max_accuracy_drop=0.5)).best.label == "grouped + fusion"


def test_the_front_holds_what_nothing_beats_in_everything(row, frame):
    # of two batch sizes the larger is faster, the smaller answers sooner and takes less memory
    small, large = row(batch=1, speeds=(50, 60, 70, 80)), row(batch=8, speeds=(90, 150, 300, 360))
    choice = choose(quartets(frame(small, large)), Limits())
    assert {"grouped + fusion b8", "grouped + fusion b1"} <= labels(choice.front)
    assert choice.front[0] is choice.best
    for one in choice.front:
        for other in choice.candidates:
            assert not (other.throughput_ips > one.throughput_ips and other.p50_ms < one.p50_ms
                        and other.memory_gb < one.memory_gb)  # fmt: skip


def test_controls_are_no_candidates(row, frame):
    rows = quartets(frame(row("identity", "identity", speeds=(100, 100, 100, 101))))
    assert labels(choose(rows, Limits()).candidates) == {"baseline b4"}
