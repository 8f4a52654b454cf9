"""The strategy sentence never advises what the gains speak against."""

from __future__ import annotations

import numpy as np
import pytest

from harness.results.analyse import Analysis
from harness.results.record import strategy
from harness.stats import estimate


def sentence(planned, baseline, arch, hw, combined) -> str:
    noise = np.random.default_rng(0).standard_normal((60, 4))
    noise -= noise.mean(axis=0)  # the means are then exactly what was asked for
    found = estimate(np.array([baseline, arch, hw, combined]) * np.exp(1e-3 * noise))
    plan = planned("arch=grouped", "hw=fusion")
    return strategy(plan, Analysis({}, {"wall": found}, "wall", str(found.verdict), None, None))


@pytest.mark.parametrize(
    ("throughputs", "advice"),
    [
        ((1, 2, 2, 6), "Use grouped and onnxruntime + fusion together"),
        ((1, 2, 3, 6), "each on its own merit"),
        ((1, 2, 3, 5), "worth its cost"),
        ((1, 2, 3, 2.5), "Use onnxruntime + fusion alone"),
        ((1, 0.4, 0.5, 0.9), "Use neither together"),  # amplifies, and is slower than doing nothing
        ((1, 0.2, 3, 2), "Use onnxruntime + fusion alone"),  # amplifies, and is slower than fusion alone
    ],
)
def test_the_advice_follows_verdict_and_gains(planned, throughputs, advice):
    assert advice in sentence(planned, *throughputs)


def test_the_numbers_of_the_sentence_are_the_gains(planned):
    text = sentence(planned, 1, 2, 3, 5)
    assert "5.00x together against 6.00x expected (grouped 2.00x, onnxruntime + fusion 3.00x; factor 0.833" in text
