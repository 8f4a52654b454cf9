"""Answers for labelled images, small and picklable: of a cell's engine, and of its network in fp32 PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.measure.cell import CellAnswers
from harness.networks.data.labelled import LabelledImages
from harness.techniques.arch.stages import ONE_STAGE, NetworkOutputs, Router, all_heads, routed, router_of, stages

if TYPE_CHECKING:
    from harness.config import ProtocolConfig
    from harness.measure.cell import Cell
    from harness.measure.coordinator import Handle
    from harness.measure.progress import Progress

TOP = 5
IMAGES_PER_TIMEOUT = 1000  # each full thousand of images gives a worker its time once more
MOST_CACHED = 16  # a few numbers an image; cells of a sweep share networks
_eager_answers: dict[tuple[object, ...], Predictions] = {}


@dataclass(frozen=True)
class Predictions:
    """The answers for all images of a part, in its order."""

    ranked: np.ndarray  # [N, 5] int: the classes a caller gets, best first; fewer columns where there are fewer classes
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N] int: each head's answer for every image
    left_after: np.ndarray | None = None  # [N] int: the stage after which each left; None: there is only one
    router: Router = ONE_STAGE  # that decided it


def best_classes(logits: np.ndarray) -> np.ndarray:
    """Return [N, 5] int, the classes of the largest logits [N, C], best first; equals go by their number."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :TOP]


def predict(
    images: LabelledImages,
    batch_size: int,
    run: Callable[[np.ndarray], NetworkOutputs],
    router: Router = ONE_STAGE,
) -> Predictions:
    """Return the answers of `run` ([B, 3, S, S] float32 -> outputs) for all images, in full batches.

    The last batch is filled up with the first images, whose second answers are dropped: a static engine takes no less.
    """
    ranked, left_after = [], []
    heads: dict[str, list[np.ndarray]] = {}
    for start in range(0, images.count, batch_size):
        outputs = run(images.batch(np.arange(start, start + batch_size) % images.count))
        real = min(batch_size, images.count - start)
        ranked.append(best_classes(outputs.final[:real]))
        if outputs.left_after is not None:
            left_after.append(outputs.left_after[:real])
            for name, logits in outputs.heads.items():
                heads.setdefault(name, []).append(logits[:real].argmax(axis=1))
    return Predictions(
        ranked=np.concatenate(ranked),
        heads={name: np.concatenate(parts) for name, parts in heads.items()},
        left_after=np.concatenate(left_after) if left_after else None,
        router=router,
    )


def eager_predictions(recipe: str, images: LabelledImages, batch_size: int, device: str) -> Predictions:
    """Return the answers of the network of `recipe` (JSON with its proofs) in fp32 eager on `device`.

    The same batches as the engine has: which samples leave may depend on the batch. Raises CellError for another
    network.
    """
    import torch

    from harness.techniques.arch.recipe import rebuild

    network = rebuild(recipe)
    router, parts = router_of(network), stages(network)  # before it moves: stages are traced on no device
    network.to(device)

    def run(batch: np.ndarray) -> NetworkOutputs:
        heads = {
            name: value.cpu().numpy() for name, value in all_heads(parts, (torch.from_numpy(batch).to(device),)).items()
        }
        return routed(heads, router)

    with torch.inference_mode(), without_tf32():
        return predict(images, batch_size, run, router)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute fp32 as fp32 inside, whatever the process computes with."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def answers_of(
    cell: Cell,
    handle: Handle,
    settings: ProtocolConfig,
    progress: Progress,
    second_process: Callable[[], Handle] | None = None,
) -> CellAnswers | None:
    """Return a cell's answers, None where the data has no labels; raise CellError where it can't give them.

    What a network answers in fp32 eager takes memory: nothing may be timed any more in the process that computes it,
    which is the cell's first process unless `second_process` returns another. Cells of one network share those answers.
    """
    if cell.labelled is None:
        return None
    timeout_s = settings.worker_timeout_s * (1 + cell.labelled.test.count // IMAGES_PER_TIMEOUT)
    progress.stage("accuracy", cell.name)
    answers = handle.ask("predict", None, timeout_s)
    # which samples leave may depend on the batch, so its size decides the answers too
    key = (cell.recipe, cell.labelled.test.digest, cell.batch_size, cell.device)
    if key not in _eager_answers:
        progress.stage("accuracy of fp32 eager", cell.name)
        _eager_answers[key] = (second_process() if second_process else handle).ask("predict_eager", None, timeout_s)
    eager = _eager_answers[key]
    while len(_eager_answers) > MOST_CACHED:
        del _eager_answers[next(iter(_eager_answers))]
    return CellAnswers(answers, eager)
