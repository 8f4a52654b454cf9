"""Verification: a wrong engine has no speed; rounding is not wrong, but only as much as the precision explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.measure.verify import Expected, compare
from harness.system.errors import CellError
from harness.techniques.arch.exit_policy import ExitPolicy
from harness.techniques.arch.stages import NetworkOutputs
from harness.techniques.hw.bf16 import BF16
from harness.techniques.hw.fp16 import FP16
from harness.techniques.levels import FP32, TF32

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((8, 10)).astype(np.float32)
EXIT_LOGITS = RNG.standard_normal((8, 10)).astype(np.float32)
EXITED = np.arange(8) % 2 == 0
LEFT_AFTER = np.where(EXITED, 0, 1)
INPUTS = {"input": np.zeros((8, 3, 4, 4), dtype=np.float32)}

WHOLE = Expected(INPUTS, {"logits": LOGITS})
EXITING = Expected(INPUTS, {"exit_logits": EXIT_LOGITS, "logits": LOGITS}, LEFT_AFTER, ExitPolicy("share", 0.5))
SENT = np.where(EXITED[:, None], EXIT_LOGITS, LOGITS)
EXITING_OUTPUTS = NetworkOutputs({"exit_logits": EXIT_LOGITS, "logits": LOGITS}, SENT, LEFT_AFTER)


def whole(logits: np.ndarray) -> NetworkOutputs:
    return NetworkOutputs({"logits": logits.astype(np.float32)}, logits.astype(np.float32))


def off_by(share: float) -> NetworkOutputs:
    """Return outputs whose largest error is this share of the reference's range."""
    error = np.random.default_rng(1).uniform(-1, 1, LOGITS.shape)
    return whole(LOGITS + share * np.abs(LOGITS).max() * error / np.abs(error).max())


def test_the_same_outputs_are_faithful():
    found = compare(whole(LOGITS), WHOLE, FP32)
    assert (found.max_abs, found.max_relative, found.top1_agreement, found.routing) == (0, 0, 1, {})
    assert found.cosine == pytest.approx(1)


def test_how_far_off_is_what_is_reported():
    logits = LOGITS.copy()
    logits[3, 4] += 1e-3
    found = compare(whole(logits), WHOLE, FP32)
    assert found.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert found.max_relative == pytest.approx(1e-3 / np.abs(LOGITS).max(), rel=1e-3)


WRONG = {
    "scaled": LOGITS * 1.5,
    "half of it": LOGITS / 2,
    "negated": -LOGITS,
    "shifted": LOGITS + 1,
    "permuted samples": np.roll(LOGITS, 1, axis=0),
    "permuted classes": np.roll(LOGITS, 1, axis=1),
    "zeros": np.zeros_like(LOGITS),
    "one sample of another": np.vstack([LOGITS[1:2], LOGITS[1:]]),
}


@pytest.mark.parametrize("precision", [FP32, FP16, BF16])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_engine_is_refused_in_one_line_that_says_how_wrong(wrong, precision):
    with pytest.raises(CellError, match=r"^wrong output: 'logits' is off by [\d.e+-]+ of its range [^\n]+$") as refused:
        compare(whole(WRONG[wrong]), WHOLE, precision)
    assert precision.name in str(refused.value)


def test_rounding_of_half_precision_is_accepted_for_fp16_and_tf32_but_not_for_fp32():
    assert compare(off_by(1e-2), WHOLE, FP16).max_relative == pytest.approx(1e-2, rel=0.01)
    assert compare(off_by(1e-2), WHOLE, TF32).max_relative == pytest.approx(1e-2, rel=0.01)
    with pytest.raises(CellError, match="fp32 explains at most"):
        compare(off_by(1e-2), WHOLE, FP32)


def test_what_half_precision_does_not_explain_is_refused_for_fp16_too():
    with pytest.raises(CellError, match="fp16 explains at most"):
        compare(off_by(0.1), WHOLE, FP16)


def test_fp16_by_numpy_itself_is_within_the_tolerance():
    assert compare(whole(LOGITS.astype(np.float16)), WHOLE, FP16).top1_agreement == 1


def test_an_output_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(CellError, match=r"\(7, 10\), the reference \(8, 10\)"):
        compare(whole(LOGITS[:7]), WHOLE, FP32)


def test_every_head_is_looked_at():
    wrong = replace(EXITING_OUTPUTS, heads={"exit_logits": -EXIT_LOGITS, "logits": LOGITS})
    with pytest.raises(CellError, match="'exit_logits' is off"):
        compare(wrong, EXITING, FP32)
    assert compare(EXITING_OUTPUTS, EXITING, FP32).routing == {"exit_flips": 0}


def test_a_decision_that_differs_from_the_reference_is_counted():
    exited = EXITED.copy()
    exited[[0, 5]] ^= True
    final = np.where(exited[:, None], EXIT_LOGITS, LOGITS)
    flipped = replace(EXITING_OUTPUTS, left_after=np.where(exited, 0, 1), final=final)
    assert compare(flipped, EXITING, FP16).routing == {"exit_flips": 2}


@pytest.mark.parametrize("mix_up", ["samples", "heads", "one sample"])
def test_an_answer_that_went_to_another_sample_or_head_is_refused(mix_up):
    final = {
        "samples": np.roll(SENT, 1, axis=0),
        "heads": np.where(EXITED[:, None], LOGITS, EXIT_LOGITS),
        "one sample": np.vstack([SENT[:7], SENT[6:7]]),
    }[mix_up]
    wrong = 1 if mix_up == "one sample" else 8
    with pytest.raises(CellError, match=f"{wrong} of 8 samples got another sample's or head's answer"):
        compare(replace(EXITING_OUTPUTS, final=final), EXITING, FP16)


def test_top1_agreement_is_the_share_of_samples_with_the_same_answer():
    reference = np.zeros((4, 3), dtype=np.float32)
    reference[:, 0], reference[:, 1] = 1.0, 0.999
    got = reference.copy()
    got[0, 1] = 1.001
    expected = Expected(INPUTS, {"logits": reference})
    assert compare(whole(got), expected, FP16).top1_agreement == 0.75


def test_one_value_that_is_no_number_is_wrong():
    logits = LOGITS.copy()
    logits[2, 2] = np.nan
    with pytest.raises(CellError, match="wrong output"):
        compare(whole(logits), WHOLE, FP32)
