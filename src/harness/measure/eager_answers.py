"""The answers of a network itself, in fp32 PyTorch eager: what an engine's are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from harness.measure.predictions import Predictions, predict
from harness.networks.data.decoded import LabelledImages
from harness.techniques.arch.recipe import rebuild
from harness.techniques.arch.stages import NetworkOutputs, all_heads, routed, router_of, stages


def eager_predictions(recipe: str, images: LabelledImages, batch_size: int, device: str) -> Predictions:
    """Return the answers of the network of `recipe` (JSON with its proofs) in fp32 eager on `device`.

    The same batches as the engine has: which samples leave may depend on the batch. Raises CellError for another
    network.
    """
    network = rebuild(recipe)
    router, parts = router_of(network), stages(network)  # before it moves: stages are traced on no device
    network.to(device)

    def run(batch: np.ndarray) -> NetworkOutputs:
        heads = {
            name: value.cpu().numpy() for name, value in all_heads(parts, torch.from_numpy(batch).to(device)).items()
        }
        return routed(heads, router)

    with torch.inference_mode(), without_tf32():
        return predict(images, batch_size, run, router)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute fp32 as fp32 inside, whatever the process computes with."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
