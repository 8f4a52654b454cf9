"""The labelled images of a job: what it is tested on, and what thresholds are chosen on; checked before any work."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache as memoised
from typing import TYPE_CHECKING

import numpy as np

from harness.config import DataConfig
from harness.networks.data import open_dataset
from harness.networks.data.dataset import DataSet
from harness.networks.data.decoded import LabelledImages, decoded
from harness.networks.data.preprocessing import preprocessing
from harness.system.cache import Cache
from harness.system.counts import counted
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.config import ModelConfig

CALIBRATION_IMAGES = 2048  # of the validation part, at most: a threshold needs no more


@dataclass(frozen=True)
class Labelled:
    """What labelled data gives a measurement."""

    test: LabelledImages
    validation: LabelledImages | None  # None: the data set has no image for it

    def timed_batch(self, batch_size: int, seed: int) -> np.ndarray:
        """Return the places [batch_size] of the test images that are timed: all different where there are enough."""
        order = np.random.Generator(np.random.Philox(seed)).permutation(self.test.count)
        return np.resize(order, batch_size)


def opened(data: DataConfig) -> DataSet | None:
    """Return the data set of a config, listed once a process; None for synthetic images."""
    return _opened(json.dumps(asdict(data), sort_keys=True))


def labelled(model: ModelConfig, data: DataConfig, cache: Cache) -> Labelled | None:
    """Return the decoded test and validation images, None for synthetic ones; raise UserError where none is readable.

    `model` has the weights that the baseline uses: their preprocessing holds for all cells.
    """
    found = opened(data)
    if found is None:
        return None
    how = preprocessing(model, data)
    has_validation = len(found.parts["validation"]) > 0
    return Labelled(
        test=decoded(found, "test", how, cache, data.limit),
        validation=decoded(found, "validation", how, cache, CALIBRATION_IMAGES) if has_validation else None,
    )


def check_data(model: ModelConfig, data: DataConfig) -> None:
    """Raise UserError for a data set that can't be had, is empty, or does not fit the model; decodes nothing."""
    _check_options(data)
    found = opened(data)
    if found is None:
        return
    if len(found.classes) != model.num_classes:
        raise UserError(
            f"data={data.name} has {counted(len(found.classes), 'class', 'classes')} and "
            f"model.num_classes={model.num_classes}: "
            f"labels and outputs must be the same; use model.num_classes={len(found.classes)}, or other data."
        )
    if not len(found.parts["test"]):
        sizes = ", ".join(f"{len(part)} for {name}" for name, part in found.parts.items())
        raise UserError(f"data={data.name}: there is no image to test on ({sizes}); see data.split_shares.")
    preprocessing(model, data)


def content_digest(data: DataConfig) -> str:
    """Return what changes with a data set's content; "" for synthetic images, whose seed says all."""
    found = opened(data)
    return "" if found is None else " ".join(part.digest for part in found.parts.values())


def _check_options(data: DataConfig) -> None:
    shares = data.split_shares
    if len(shares) != 3 or min(shares) < 0 or not shares[2] > 0:
        raise UserError(f"data.split_shares={shares}: must be three shares, train, validation, test; the last above 0.")
    if data.limit is not None and data.limit < 1:
        raise UserError(f"data.limit={data.limit}: must be at least 1.")
    for name in ("mean", "std"):
        values = getattr(data, name)
        if values is not None and (len(values) != 3 or (name == "std" and min(values) <= 0)):
            raise UserError(
                f"data.{name}={values}: must be three numbers, red, green, blue{', above 0' * (name == 'std')}."
            )
    takes_path = data.name in ("image_folder", "huggingface")
    if data.path is not None and not takes_path:
        raise UserError(f"data.path={data.path}: data={data.name} is not read from a path; use data=image_folder.")


@memoised
def _opened(text: str) -> DataSet | None:
    return open_dataset(DataConfig(**json.loads(text)))
