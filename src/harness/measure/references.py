"""What a network must answer: all heads in fp32 eager, for inputs that are never the timed ones."""

from __future__ import annotations

import numpy as np

from harness.config import HarnessConfig
from harness.measure.verify import Expected
from harness.networks.data.decoded import LabelledImages
from harness.networks.data.labelled import Labelled
from harness.networks.data.synthetic import images
from harness.techniques.arch.assembled import Network
from harness.techniques.arch.stages import all_heads, routed

VERIFY_SEED_OFFSET = 7919  # verification inputs are never the timed ones
KEPT_REFERENCES = 4  # a batch of 256 images is 154 MB
_references: dict[tuple[object, ...], Expected] = {}


def reference(net: Network, config: HarnessConfig, data: Labelled | None = None) -> Expected:
    """Return all heads of a network in fp32 eager, for inputs of one batch that are never timed; the last few are kept.

    Of labelled data these are validation images where it has some: a trained network's statistics are those of images,
    and noise may drive its activations to where fp16 ends.

    Two cells of a quartet are the same network, and so are cells of other quartets; a large batch takes a CPU long.
    """
    real = data.validation if data is not None else None
    key = (net.identity.exact, net.stages[0].input_shape, net.router, config.batch_size, config.data.seed, real)
    found = _references.pop(key, None) or _reference(net, config, real)
    _references[key] = found  # the one used last stands last
    while len(_references) > KEPT_REFERENCES:
        del _references[next(iter(_references))]
    return found


def _reference(net: Network, config: HarnessConfig, real: LabelledImages | None) -> Expected:
    import torch

    if real is None:
        inputs = images(config.data.seed + VERIFY_SEED_OFFSET, config.batch_size, net.stages[0].input_shape)
    else:
        inputs = real.batch(np.arange(config.batch_size) % real.count)
    with torch.inference_mode():
        heads = {name: value.numpy() for name, value in all_heads(net.stages, torch.from_numpy(inputs)).items()}
    return Expected(inputs, heads, routed(heads, net.router).left_after, net.router)
