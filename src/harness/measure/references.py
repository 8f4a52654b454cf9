"""What cells are compared with: the outputs of their networks in fp32 PyTorch eager, before and after the timing."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from harness.config import HarnessConfig, ProtocolConfig
from harness.measure.cell import Answers, Cell
from harness.measure.coordinator import Handle
from harness.measure.predictions import Predictions
from harness.measure.progress import Progress
from harness.measure.verify import Expected
from harness.networks.data.decoded import LabelledImages
from harness.networks.data.labelled import Labelled
from harness.networks.data.synthetic import images
from harness.techniques.arch.assembled import Network
from harness.techniques.arch.stages import all_heads, routed

VERIFY_SEED_OFFSET = 7919  # verification inputs are never the timed ones
KEPT_REFERENCES = 4  # a batch of 256 images is 154 MB
_references: dict[tuple[object, ...], Expected] = {}
IMAGES_PER_TIMEOUT = 1000  # each full thousand of images gives a worker its time once more
KEPT_ANSWERS = 16  # a few numbers an image; cells of a sweep share networks
_eager_answers: dict[tuple[object, ...], Predictions] = {}


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
        inputs = _inputs(config.data.seed + VERIFY_SEED_OFFSET, config.batch_size, net.stages[0].input_shape)
    else:
        inputs = real.batch(np.arange(config.batch_size) % real.count)
    with torch.inference_mode():
        heads = {name: value.numpy() for name, value in all_heads(net.stages, torch.from_numpy(inputs)).items()}
    return Expected(inputs, heads, routed(heads, net.router).left_after, net.router)


@lru_cache(maxsize=2)
def _inputs(seed: int, batch_size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the images that cells of one shape are verified with: in memory once, however many cells there are."""
    return images(seed, batch_size, shape)


def answers_of(
    cell: Cell,
    handle: Handle,
    settings: ProtocolConfig,
    progress: Progress,
    apart: Callable[[], Handle] | None = None,
) -> Answers | None:
    """Return a cell's answers, None where the data has no labels; raise CellError where it can't give them.

    What a network answers in fp32 eager takes memory: nothing may be timed any more in the process that computes it,
    which is the cell's own one unless `apart` returns another. Cells of one network share those answers.
    """
    if cell.labelled is None:
        return None
    timeout_s = settings.worker_timeout_s * (1 + cell.labelled.test.count // IMAGES_PER_TIMEOUT)
    progress.stage("accuracy", cell.name)
    own = handle.ask("predict", None, timeout_s)
    # which samples leave may depend on the batch, so its size decides the answers too
    key = (cell.recipe, cell.labelled.test.digest, cell.batch_size, cell.device)
    if key not in _eager_answers:
        progress.stage("accuracy of fp32 eager", cell.name)
        _eager_answers[key] = (apart() if apart else handle).ask("predict_eager", None, timeout_s)
    eager = _eager_answers[key]
    while len(_eager_answers) > KEPT_ANSWERS:
        del _eager_answers[next(iter(_eager_answers))]
    return Answers(own, eager)
