"""The answers of a network itself, in fp32 PyTorch eager: what an engine's are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from harness.measure.predictions import Predictions, predict
from harness.networks.data.decoded import LabelledImages
from harness.techniques.arch.exit_policy import ExitPolicy, exit_mask
from harness.techniques.arch.heads import all_heads
from harness.techniques.arch.outputs import CellOutputs
from harness.techniques.arch.recipe import rebuild
from harness.techniques.arch.stages import stages


def eager_predictions(recipe: str, images: LabelledImages, batch_size: int, device: str) -> Predictions:
    """Return the answers of the network of `recipe` (JSON with its proofs) in fp32 eager on `device`.

    The same batches as the engine has, since a share of a batch exits. Raises CellError for another network.
    """
    network = rebuild(recipe)
    policy, parts = getattr(network, "policy", None), stages(network)  # before it moves: stages are traced on no device
    network.to(device)

    def run(batch: np.ndarray) -> CellOutputs:
        heads = {
            name: value.cpu().numpy() for name, value in all_heads(parts, torch.from_numpy(batch).to(device)).items()
        }
        return routed(heads, policy)

    with torch.inference_mode(), without_tf32():
        return predict(images, batch_size, run)


def routed(heads: dict[str, np.ndarray], policy: ExitPolicy | None) -> CellOutputs:
    """Return what a caller gets of all heads [B, C] under a policy."""
    if policy is None:
        return CellOutputs(heads, heads["logits"])
    exited = exit_mask(heads["exit_logits"], policy)
    return CellOutputs(heads, np.where(exited[:, None], heads["exit_logits"], heads["logits"]), exited)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute fp32 as fp32 inside, whatever the process computes with."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
