"""The exit threshold, chosen on validation images: for a share that leaves, or for a drop in accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.networks.data.decoded import LabelledImages
from harness.networks.determinism import single_threaded
from harness.techniques.arch.early_exit import EarlyExitNetwork, resolve
from harness.techniques.arch.exit_policy import ExitPolicy, calibrate_threshold, confidence, exit_mask
from harness.techniques.arch.heads import all_heads
from harness.techniques.arch.stages import stages

if TYPE_CHECKING:
    from harness.config import EarlyExitOptions

_CHUNK = 16  # images at a time: bounds the memory at 224 pixels


def policy_on(network: EarlyExitNetwork, options: EarlyExitOptions, images: LabelledImages) -> ExitPolicy:
    """Return the policy of `options` on labelled data, its threshold chosen on `images`, none of which is tested on.

    `exit_share` of the result is the share of `images` that leaves. A threshold that is given stays as it is.
    """
    policy = resolve(options, labelled=True)
    if policy.decision == "share":
        return policy
    parts = stages(network)
    # one thread: each process of a sweep must find the same threshold to the last bit
    with torch.inference_mode(), single_threaded():
        chunks = [
            all_heads(parts, torch.from_numpy(images.batch(np.arange(start, min(start + _CHUNK, images.count)))))
            for start in range(0, images.count, _CHUNK)
        ]
    exit_logits, logits = (np.concatenate([one[name].numpy() for one in chunks]) for name in ("exit_logits", "logits"))
    sure = confidence(exit_logits)
    if policy.threshold is not None:
        return replace(policy, exit_share=float(exit_mask(exit_logits, policy).mean()))
    wanted = policy.exit_share
    if options.max_accuracy_drop is not None:
        labels = images.labels()
        early, late = exit_logits.argmax(axis=1) == labels, logits.argmax(axis=1) == labels
        wanted = largest_share(sure, early, late, options.max_accuracy_drop)
    threshold, achieved = calibrate_threshold(sure, wanted)
    return replace(policy, threshold=threshold, exit_share=achieved)


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
