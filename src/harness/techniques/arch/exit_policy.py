"""Which samples leave early: pure decisions on the exit head's logits, alike for numpy arrays and torch tensors.

The confidence of a sample is its largest softmax probability, always computed in float32 (BranchyNet, Teerapittayanon
et al., ICPR 2016, uses the entropy; the maximum is what later work and engines settled on). On torch tensors nothing
here waits for the device but a threshold's survivors, whose number is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

import numpy as np

Decision = Literal["share", "threshold"]


@dataclass(frozen=True)
class ExitPolicy:
    """How samples are chosen to leave.

    `share`: of B samples, the round-half-up(exit_share * B) most confident ones; equals go by their place in the batch.
    `threshold`: every sample whose confidence is at least `threshold`; None: not calibrated yet. `exit_share` is then
    the share that is expected to leave.
    """

    decision: Decision
    exit_share: float
    threshold: float | None = None

    def exits(self, batch_size: int) -> int:
        """Return how many of `batch_size` samples leave: exact for `share`, expected for `threshold`."""
        # Decimal, because 0.29 * 50 is 14.499999999999998 in binary and should round to 15.
        exact = Decimal(repr(float(self.exit_share))) * batch_size
        return int(exact.to_integral_value(ROUND_HALF_UP))

    def survivors(self, batch_size: int) -> int:
        """Return how many of `batch_size` samples go on: exact for `share`, expected for `threshold`."""
        return batch_size - self.exits(batch_size)

    def leaving(self, batch_size: int) -> float:
        """Return the share of a batch that leaves: of a small one a whole number does, so half of three is two."""
        return self.exits(batch_size) / batch_size if self.decision == "share" else self.exit_share


def confidence(logits: Any) -> Any:
    """Return the largest softmax probability of each sample: [B, C] of any float type -> [B] float32.

    A sample with NaN logits has confidence -1: whatever the policy, it is the last to leave.
    """
    if isinstance(logits, np.ndarray):
        wide = logits.astype(np.float32)
        # The largest probability is exp(0) over the sum of the shifted exponentials.
        with np.errstate(invalid="ignore"):
            peak = 1 / np.exp(wide - wide.max(axis=-1, keepdims=True)).sum(axis=-1, dtype=np.float32)
        return np.nan_to_num(peak, nan=-1.0)
    wide = logits.float()
    peak = 1 / (wide - wide.amax(dim=-1, keepdim=True)).exp().sum(dim=-1)
    return peak.nan_to_num(nan=-1.0)


def exit_mask(logits: Any, policy: ExitPolicy) -> Any:
    """Return [B] bool, true for the samples that leave; `logits` is [B, C] from the exit head.

    Raises ValueError for a threshold that is not calibrated.
    """
    sure = confidence(logits)
    if policy.decision == "threshold":
        return sure >= _threshold(policy)
    order, count = _by_confidence(sure), policy.exits(len(sure))
    if isinstance(sure, np.ndarray):
        mask = np.zeros(len(sure), dtype=bool)
        mask[order[:count]] = True
        return mask
    mask = sure.new_zeros(len(sure)).bool()
    return mask.index_fill(0, order[:count], True)


def survivor_indices(logits: Any, policy: ExitPolicy) -> Any:
    """Return the places of the samples that go on, ascending, int64: the complement of `exit_mask`.

    Under `share` their number is known beforehand, so a GPU needs no synchronisation.
    """
    if policy.decision == "share":
        sure = confidence(logits)
        rest = _by_confidence(sure)[policy.exits(len(sure)) :]
        return np.sort(rest) if isinstance(rest, np.ndarray) else rest.sort().values
    mask = exit_mask(logits, policy)
    return np.flatnonzero(~mask) if isinstance(mask, np.ndarray) else (~mask).nonzero().flatten()


def calibrate_threshold(confidences: Any, exit_share: float) -> tuple[float, float]:
    """Return the threshold at which `exit_share` of these samples leave, and the share that really does.

    `confidences` is [N], as `confidence` gives it. The threshold lies half-way between the last sample that leaves and
    the first that stays, so that the rounding of another engine flips neither; equal confidences can't be parted, then
    the nearer share is taken. Raises ValueError for no samples.
    """
    values = np.sort(np.asarray(confidences, dtype=np.float32))[::-1]
    if not len(values):
        raise ValueError("a threshold can't be calibrated on no samples")
    wanted = ExitPolicy("share", exit_share).exits(len(values))
    # A cut after position n is possible where the confidence drops there.
    cuts = [n for n in range(len(values) + 1) if n in (0, len(values)) or values[n - 1] > values[n]]
    cut = min(cuts, key=lambda n: abs(n - wanted))
    if cut == 0:
        threshold = np.nextafter(values[0], np.float32(np.inf))
    elif cut == len(values):
        threshold = values[-1]
    else:
        middle = np.float32((float(values[cut - 1]) + float(values[cut])) / 2)
        threshold = middle if middle > values[cut] else values[cut - 1]
    return float(threshold), cut / len(values)


def _threshold(policy: ExitPolicy) -> float:
    if policy.threshold is None:
        raise ValueError("the exit threshold is not calibrated: see harness.techniques.arch.calibration")
    return policy.threshold


def _by_confidence(sure: Any) -> Any:
    # Stable in both, so that equal confidences keep the batch's order.
    if isinstance(sure, np.ndarray):
        return np.argsort(-sure, kind="stable")
    return sure.sort(descending=True, stable=True).indices
