"""After the timing: every cell answers the labelled images, in the process and with the engine that was timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config import ProtocolConfig
from harness.measure.coordinator import Handle
from harness.measure.progress import Progress

if TYPE_CHECKING:
    from harness.measure.bring_up import CellTask
    from harness.measure.predictions import Predictions

IMAGES_PER_TIMEOUT = 1000  # each full thousand of images gives a worker its time once more
KEPT_REFERENCES = 16  # a few numbers an image; cells of a sweep share networks
_references: dict[tuple[object, ...], Predictions] = {}


@dataclass(frozen=True)
class QuartetPredictions:
    """What each cell answered, by role, and what its own network answers in fp32 eager."""

    own: Mapping[str, Predictions]
    eager: Mapping[str, Predictions]


def answer(
    tasks: Sequence[CellTask], handles: Mapping[str, Handle], settings: ProtocolConfig, progress: Progress
) -> QuartetPredictions | None:
    """Return all answers, None where the data has no labels; raise CellError where a cell can't give them."""
    own, eager = {}, {}
    for task in tasks:
        spec = task.spec
        if spec.labelled is None:
            return None
        timeout_s = settings.worker_timeout_s * (1 + spec.labelled.test.count // IMAGES_PER_TIMEOUT)
        progress.stage("accuracy", spec.role)
        own[spec.role] = handles[spec.role].ask("predict", None, timeout_s)
        # which samples leave may depend on the batch, so its size decides the answers too
        key = (spec.recipe, spec.labelled.test.digest, spec.batch_size, spec.device)
        if key not in _references:
            progress.stage("accuracy of fp32 eager", spec.role)
            _references[key] = handles[spec.role].ask("predict_eager", None, timeout_s)
        eager[spec.role] = _references[key]
    while len(_references) > KEPT_REFERENCES:
        del _references[next(iter(_references))]
    return QuartetPredictions(own, eager)
