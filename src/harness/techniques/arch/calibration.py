"""The exit threshold, chosen once on inputs that are not the measured ones."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.networks.determinism import single_threaded
from harness.techniques.arch.anatomy import image_size
from harness.techniques.arch.early_exit import EarlyExitNetwork
from harness.techniques.arch.exit_policy import ExitPolicy, calibrate_threshold, confidence, exit_mask

_CHUNK = 16  # samples at a time: bounds the memory at 224 pixels


def calibration_batch(network: EarlyExitNetwork, samples: int = 64, seed: int = 987_654_321) -> torch.Tensor:
    """Return [samples, 3, S, S] float32 from a standard normal, with a seed that no measured input has."""
    side = image_size(network)
    return torch.randn(samples, 3, side, side, generator=torch.Generator().manual_seed(seed))


def calibrate(network: EarlyExitNetwork, policy: ExitPolicy, images: torch.Tensor | None = None) -> ExitPolicy:
    """Return `policy` with its threshold filled in, and `exit_share` set to the share of `images` that then leaves.

    `images` is [N, 3, S, S]; None takes `calibration_batch`. A threshold that is given is kept, and only its share is
    measured. A share needs no calibration and is returned as it is. Do this once, and hand the result to the workers
    (`Recipe.exit_policy`): a threshold found twice may differ in its last bit.
    """
    if policy.decision == "share":
        return policy
    images = calibration_batch(network) if images is None else images
    with torch.no_grad(), single_threaded():
        logits = torch.cat([network.stage1(chunk)[1] for chunk in images.split(_CHUNK)])
    if policy.threshold is not None:
        return replace(policy, exit_share=float(exit_mask(logits, policy).float().mean()))
    threshold, achieved = calibrate_threshold(confidence(logits).numpy(), policy.exit_share)
    return replace(policy, threshold=threshold, exit_share=achieved)
