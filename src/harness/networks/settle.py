"""Random weights made fit to be verified: an untrained network must answer differently to different images.

As torchvision draws them, many networks don't: the last layer of a ViT is all zeros; in inference, where batch norms
have seen no data, EfficientNet-B0's logits are of the order of 1e-14, which half precision rounds to nothing; the
blocks of a ConvNeXt are scaled by 1e-6 and might as well be missing. A wrong engine would pass every comparison there.
Trained weights need none of this.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from harness.networks.determinism import seeded, single_threaded

_SAMPLES = 8
_SEED = 24_601  # of the images that batch norms measure: no measured input has it
_SCALE_NAME = re.compile(r"(^|\.)(layer_scale|gamma)(_?\d+)?$")
_MUTED = 1e-2  # a branch scaled by less than this leaves no trace in half precision


def settle(network: nn.Module, image_size: int) -> None:
    """Change random weights in place: draw layers that are all zeros, open muted branches, measure batch norms.

    Draws from torch's global generator, already seeded. The layers that batch norms see decide their statistics, as one
    pass over a seeded batch in training mode would; nothing else of `network` is put into that mode.
    """
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d) and not part.weight.any():
                part.reset_parameters()
        for name, scale in network.named_parameters():
            if _SCALE_NAME.search(name) and float(scale.abs().max()) < _MUTED:
                scale.fill_(1.0)
        _measure_batch_norms(network, image_size)


def _measure_batch_norms(network: nn.Module, image_size: int) -> None:
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d) and part.track_running_stats]
    if not norms:
        return
    network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None  # the plain mean over what it sees, which is one batch
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(_SAMPLES, 3, image_size, image_size, generator=generator)
    with single_threaded(), seeded(_SEED):
        network(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
