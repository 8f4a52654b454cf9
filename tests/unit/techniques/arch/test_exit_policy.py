import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.techniques.arch.exit_policy import ExitPolicy, calibrate_threshold, confidence


def random_logits(batch_size, classes=10, seed=0):
    return np.random.default_rng(seed).normal(size=(batch_size, classes)).astype(np.float32) * 3


def test_confidence_is_the_largest_softmax_probability():
    logits = random_logits(50)
    shifted = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(confidence(logits), (shifted / shifted.sum(1, keepdims=True)).max(1), rtol=1e-6)


def test_confidence_is_float32_even_where_fp16_would_overflow():
    logits = np.array([[12, 11, 0], [0, 0, 0]], dtype=np.float16)
    assert np.exp(12.0) > np.finfo(np.float16).max
    for sure in (confidence(logits), confidence(torch.from_numpy(logits)).numpy()):
        assert sure.dtype == np.float32
        np.testing.assert_allclose(sure, [1 / (1 + np.exp(-1.0) + np.exp(-12.0)), 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "batch_size", "exits"),
    [(0.5, 8, 4), (0.5, 7, 4), (0.25, 2, 1), (0.24, 2, 0), (0.29, 50, 15), (0.0, 9, 0), (1.0, 9, 9), (0.3, 1, 0)],
)
def test_a_share_rounds_half_up_to_a_known_number(share, batch_size, exits):
    policy = ExitPolicy("share", share)
    assert policy.exits(batch_size) == exits
    assert policy.reaching(1, batch_size) == batch_size - exits
    assert policy.leaving(batch_size) == exits / batch_size


def test_what_leaves_by_a_threshold_is_expected_not_a_whole_number():
    assert ExitPolicy("threshold", 0.3, threshold=0.8).leaving(2) == 0.3


@settings(max_examples=60, deadline=None)
@given(
    batch_size=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([2, 5, 1000]),
)
def test_a_share_takes_the_most_confident_ties_in_order(batch_size, share, seed, levels):
    # Few levels force equal confidences.
    logits = np.zeros((batch_size, 3), dtype=np.float32)
    logits[:, 0] = np.random.default_rng(seed).integers(0, levels, batch_size) * 0.01
    policy = ExitPolicy("share", share)
    ranked = sorted(range(batch_size), key=lambda i: (-confidence(logits)[i], i))
    leaving = set(ranked[: policy.exits(batch_size)])
    mask = policy.leaves(0, logits)
    assert set(np.flatnonzero(mask)) == leaving
    assert list(policy.goes_on(0, logits)) == [i for i in range(batch_size) if i not in leaving]


@pytest.mark.parametrize(
    "policy",
    [ExitPolicy("share", 0.37), ExitPolicy("share", 0.0), ExitPolicy("share", 1.0), ExitPolicy("threshold", 0.5, 0.8)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numpy_and_torch_decide_alike(policy, dtype):
    logits = random_logits(64).astype(dtype)
    tensor = torch.from_numpy(logits)
    np.testing.assert_array_equal(policy.leaves(0, logits), policy.leaves(0, tensor).numpy())
    np.testing.assert_array_equal(policy.goes_on(0, logits), policy.goes_on(0, tensor).numpy())
    assert policy.leaves(0, tensor).dtype == torch.bool
    assert policy.goes_on(0, tensor).dtype == torch.int64


def test_a_threshold_lets_go_from_equality_on():
    logits = random_logits(20)
    edge = float(np.sort(confidence(logits))[12])
    mask = ExitPolicy("threshold", 0.4, edge).leaves(0, logits)
    assert mask.sum() == 8
    np.testing.assert_array_equal(mask, confidence(logits) >= np.float32(edge))


def test_a_sample_of_nan_is_the_last_to_leave():
    logits = random_logits(4)
    logits[1] = np.nan
    for given_logits in (logits, torch.from_numpy(logits)):
        assert list(ExitPolicy("share", 0.75).goes_on(0, given_logits)) == [1]
        assert not ExitPolicy("threshold", 0.5, 0.0).leaves(0, given_logits)[1]


def test_a_threshold_that_is_not_calibrated_is_a_bug():
    with pytest.raises(ValueError, match="not calibrated"):
        ExitPolicy("threshold", 0.5).leaves(0, random_logits(2))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_a_calibrated_threshold_reaches_its_share(share):
    logits = random_logits(100)
    threshold, achieved = calibrate_threshold(confidence(logits), share)
    assert achieved == pytest.approx(share, abs=1e-9)
    assert ExitPolicy("threshold", share, threshold).leaves(0, logits).mean() == pytest.approx(share)


def test_a_calibrated_threshold_lies_between_the_two_samples_it_parts():
    assert calibrate_threshold(np.array([0.2, 0.8, 0.4, 0.6]), 0.5) == (pytest.approx(0.5), 0.5)


def test_equal_confidences_leave_together_and_the_true_share_is_told():
    threshold, achieved = calibrate_threshold(np.array([0.9, 0.5, 0.5, 0.5, 0.1]), 0.6)
    assert achieved == 0.8  # 0.2 is further from 0.6
    assert 0.1 < threshold <= 0.5


def test_a_threshold_needs_samples():
    with pytest.raises(ValueError, match="no samples"):
        calibrate_threshold(np.array([]), 0.5)
