"""Which samples leave early, and how the threshold for it is chosen: alike for numpy arrays and torch tensors.

The confidence of a sample is its largest softmax probability, always computed in float32 (BranchyNet, Teerapittayanon
et al., ICPR 2016, uses the entropy; the maximum is what later work and engines settled on). On torch tensors nothing
here waits for the device but a threshold's survivors, whose number is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, ClassVar, Literal

import numpy as np

from harness.techniques.arch.stages import LAST_HEAD, Router

EXIT_HEAD = "exit_logits"
Decision = Literal["auto", "share", "threshold"]


@dataclass(frozen=True)
class ExitPolicy(Router):
    """How samples are chosen to leave after the first of two stages.

    `share`: of B samples, the round-half-up(exit_share * B) most confident ones; equals go by their place in the batch.
    `threshold`: every sample whose confidence is at least `threshold`; None: not calibrated yet. `exit_share` is then
    the share that is expected to leave. `auto`: a share on unlabelled data, so that the work is defined, and a
    threshold on labelled data; `calibrated` chooses, and until then it is a share.
    """

    decision: Decision
    exit_share: float
    threshold: float | None = None
    max_accuracy_drop: float | None = None  # calibrated: as many leave as cost at most this share of top-1
    place: str = field(default="", compare=False)  # where the exit is, for the notes of a row

    heads: ClassVar[tuple[str, ...]] = (EXIT_HEAD, LAST_HEAD)
    loader: ClassVar[str] = '''\
from decimal import Decimal


def leaves(router, stage, logits):
    """Return which samples leave: by confidence, the largest softmax probability."""
    wide = logits.astype(np.float32)
    sure = 1 / np.exp(wide - wide.max(axis=-1, keepdims=True)).sum(axis=-1, dtype=np.float32)
    sure = np.nan_to_num(sure, nan=-1.0)
    if router["decision"] == "threshold":
        return sure >= router["threshold"]
    count = int(Decimal(repr(router["exit_share"])) * len(sure) + Decimal("0.5"))  # the surest, in the batch's order
    return np.isin(np.arange(len(sure)), np.argsort(-sure, kind="stable")[:count])
'''

    @property
    def counts_are_known(self) -> bool:
        """A share leaves, whatever the images are."""
        return self.decision != "threshold"

    @property
    def description(self) -> str:
        """Where the exit is, and how many leave there."""
        return f"early_exit: {self.place}, {self.exit_share:.0%} of a batch leaves"

    def exits(self, batch_size: int) -> int:
        """Return how many of `batch_size` samples leave: exact for `share`, expected for `threshold`."""
        # Decimal, because 0.29 * 50 is 14.499999999999998 in binary and should round to 15.
        exact = Decimal(repr(float(self.exit_share))) * batch_size
        return int(exact.to_integral_value(ROUND_HALF_UP))

    def leaves(self, stage: int, logits: Any) -> Any:
        """Return [B] bool; raise ValueError for a threshold that is not calibrated."""
        sure = confidence(logits)
        if not self.counts_are_known:
            if self.threshold is None:
                raise ValueError("the exit threshold is not calibrated: see ExitPolicy.calibrated")
            return sure >= self.threshold
        order, count = _by_confidence(sure), self.exits(len(sure))
        if isinstance(sure, np.ndarray):
            mask = np.zeros(len(sure), dtype=bool)
            mask[order[:count]] = True
            return mask
        mask = sure.new_zeros(len(sure)).bool()
        return mask.index_fill(0, order[:count], True)

    def goes_on(self, stage: int, logits: Any) -> Any:
        """Return the places; of a share their number is known beforehand, so a GPU needs no synchronisation."""
        if not self.counts_are_known:
            return super().goes_on(stage, logits)
        sure = confidence(logits)
        rest = _by_confidence(sure)[self.exits(len(sure)) :]
        return np.sort(rest) if isinstance(rest, np.ndarray) else rest.sort().values

    def leaving(self, batch_size: int | None) -> float:
        """Return the share of a batch that leaves: of a small one a whole number does, so half of three is two."""
        if batch_size is None or not self.counts_are_known:
            return self.exit_share
        return self.exits(batch_size) / batch_size

    def share_reaching(self, stage: int, batch_size: int | None = None) -> float:
        """Return what does not leave, behind the exit."""
        return 1.0 - self.leaving(batch_size) if stage else 1.0

    def reaching(self, stage: int, batch_size: int) -> int:
        """Return the number: exact for a share, expected for a threshold."""
        return batch_size - self.exits(batch_size) if stage else batch_size

    def calibrated(self, heads: Callable[[], Mapping[str, np.ndarray]], labels: np.ndarray | None) -> ExitPolicy:
        """Return the policy with `exit_share` set to the share that leaves; a given threshold stays as it is.

        Do this once: a threshold that is found twice may differ in its last bit.
        """
        if self.decision == "share" or (self.decision == "auto" and labels is None):
            return replace(self, decision="share")
        found, policy = heads(), replace(self, decision="threshold")
        if self.threshold is not None:
            return replace(policy, exit_share=float(policy.leaves(0, found[EXIT_HEAD]).mean()))
        sure, share = confidence(found[EXIT_HEAD]), self.exit_share
        if self.max_accuracy_drop is not None and labels is not None:
            early, late = (found[name].argmax(axis=1) == labels for name in self.heads)
            share = largest_share(sure, early, late, self.max_accuracy_drop)
        threshold, achieved = calibrate_threshold(sure, share)
        return replace(policy, threshold=threshold, exit_share=achieved)

    def per_sample(self, heads: Mapping[str, np.ndarray]) -> ExitPolicy:
        """Return a threshold at which the share of the served images leaves."""
        if not self.counts_are_known:
            return self
        return replace(self, decision="threshold", threshold=None).calibrated(lambda: heads, None)

    def cost_metrics(self, stages: Sequence[float], batch_size: int) -> dict[str, float]:
        """Return the share that leaves of this batch, and 10^9 multiply-accumulates if none does and if all do."""
        out = {
            "early_exit/exit_share": self.leaving(batch_size),
            "early_exit/gmacs_no_exit": sum(stages),
            "early_exit/gmacs_all_exit": stages[0],
        }
        return out if self.threshold is None else {**out, "early_exit/threshold": self.threshold}

    def head_metric(self, head: str) -> str:
        """Return the name of either head's accuracy."""
        return "accuracy/exit_head_top1" if head == EXIT_HEAD else super().head_metric(head)

    def load_metrics(
        self, early_share: float, stages: Sequence[float], saturated_per_s: Mapping[str, float]
    ) -> dict[str, float]:
        """Return also the work that was saved, and the threshold."""
        out = super().load_metrics(early_share, stages, saturated_per_s)
        out["load/saved_work_share"] = early_share * (1 - stages[0] / sum(stages))
        return out if self.threshold is None else {**out, "load/exit_threshold": self.threshold}


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


def calibrate_threshold(confidences: Any, exit_share: float) -> tuple[float, float]:
    """Return the threshold at which `exit_share` of these samples leave, and the share that really does.

    `confidences` is [N], as `confidence` gives it. The threshold lies half-way between the last sample that leaves and
    the first that stays, so that the rounding of another engine flips neither; equal confidences can't be parted, then
    the nearer share is taken. Raises ValueError for no samples.
    """
    values = np.sort(np.asarray(confidences, dtype=np.float32))[::-1]
    if not len(values):
        raise ValueError("a threshold can't be calibrated on no samples")
    leaving = ExitPolicy("share", exit_share).exits(len(values))
    # A cut after position n is possible where the confidence drops there.
    cuts = [n for n in range(len(values) + 1) if n in (0, len(values)) or values[n - 1] > values[n]]
    cut = min(cuts, key=lambda n: abs(n - leaving))
    if cut == 0:
        threshold = np.nextafter(values[0], np.float32(np.inf))
    elif cut == len(values):
        threshold = values[-1]
    else:
        middle = np.float32((float(values[cut - 1]) + float(values[cut])) / 2)
        threshold = middle if middle > values[cut] else values[cut - 1]
    return float(threshold), cut / len(values)


def largest_share(sure: np.ndarray, early: np.ndarray, late: np.ndarray, max_drop: float) -> float:
    """Return the largest share of samples that may leave, the surest first, for at most `max_drop` less accuracy.

    `sure` [N] float, `early` and `late` [N] bool: confidence of the exit, and whether it and the last head are right.
    Only shares are looked at between which confidences differ, since a threshold can't part equals.
    """
    order = np.argsort(-sure, kind="stable")
    lost = np.concatenate([[0], np.cumsum(late[order].astype(int) - early[order].astype(int))])
    cuttable = np.concatenate([[True], sure[order][:-1] > sure[order][1:], [True]])
    allowed = np.flatnonzero(cuttable & (lost <= max_drop * len(sure) + 1e-9))
    return float(allowed[-1] / len(sure))


def _by_confidence(sure: Any) -> Any:
    # Stable in both, so that equal confidences keep the batch's order.
    if isinstance(sure, np.ndarray):
        return np.argsort(-sure, kind="stable")
    return sure.sort(descending=True, stable=True).indices
