"""The labelled images of a job: what it is tested on, and what thresholds are chosen on; checked before any work.

Images are decoded once and kept as bytes in the cache: workers map the file, so no image library runs beside a clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import DataConfig
from harness.networks.data import UNLABELLED, open_dataset
from harness.networks.data.dataset import DataSet, Part, subset
from harness.networks.data.preprocessing import DECODING, Preprocessing, normalised, preprocessing, square
from harness.networks.registry import spec
from harness.system.cache import Cache, key_of
from harness.system.counts import counted
from harness.system.errors import CellError, UserError, kind_and_first_line

if TYPE_CHECKING:
    from harness.config import ModelConfig

PIXELS, LABELS, SKIPPED = "pixels.u8", "labels.npy", "skipped.json"
LIMIT_SEED = 20_261_102  # of which images stay where there are more than asked for
_CHUNK = 256  # images decoded before they are written


@dataclass(frozen=True)
class LabelledImages:
    """The readable images of one part, ready to be mapped by any process. Plain data: it travels to workers."""

    folder: Path
    count: int
    classes: int
    preprocessing: Preprocessing
    digest: str  # the same images in the same order at the same size
    skipped: tuple[str, ...] = ()  # which images could not be read or have no label, and why

    def pixels(self) -> np.ndarray:
        """Return [N, 3, S, S] uint8, mapped from the file."""
        side = self.preprocessing.image_size
        return np.memmap(self.folder / PIXELS, np.uint8, "r", shape=(self.count, 3, side, side))

    def labels(self) -> np.ndarray:
        """Return [N] int64."""
        labels: np.ndarray = np.load(self.folder / LABELS)
        return labels

    def batch(self, places: np.ndarray) -> np.ndarray:
        """Return the inputs [M, 3, S, S] float32 of the images at `places` [M] int."""
        return normalised(self.pixels()[places], self.preprocessing)


def decoded(
    data: DataSet, part_name: str, how: Preprocessing, cache: Cache, limit: int | None = None
) -> LabelledImages:
    """Return one part of a data set, decoded now or before.

    A corrupt image is left out and named in `skipped`. Raises UserError where no image is left.
    """
    part = limited(data.parts[part_name], limit)
    # colours are normalised when a batch is made, so other means need no other file
    geometry = [how.image_size, "whole" if data.whole_image else how.resize, how.interpolation, DECODING]
    key = key_of({"images": part.digest, "geometry": geometry})
    entry = cache.fetch_or_make("data", key, lambda folder: _write(part, how, data.whole_image, folder))
    if not entry.meta["count"]:
        first = f": {entry.meta['skipped'][0]}" if entry.meta["skipped"] else ""
        raise UserError(f"{data.name}: of {counted(len(part), f'{part_name} image')} none could be read{first}.")
    return LabelledImages(
        folder=entry.path,
        count=int(entry.meta["count"]),
        classes=len(data.classes),
        preprocessing=how,
        digest=key_of({"pixels": key, "how": asdict(how)}),
        skipped=(*data.parts[part_name].left_out, *entry.meta["skipped"]),
    )


def limited(part: Part, limit: int | None) -> Part:
    """Return at most `limit` images of a part, chosen once and for all."""
    if limit is None or len(part) <= limit:
        return part
    chosen = np.random.Generator(np.random.Philox(LIMIT_SEED)).permutation(len(part))[:limit]
    return subset(part, np.sort(chosen))


def first(images: LabelledImages, count: int) -> LabelledImages:
    """Return the first `count` images alone."""
    size = min(count, images.count)
    return replace(images, count=size, digest=f"{images.digest}[:{size}]")


def _write(part: Part, how: Preprocessing, whole_image: bool, folder: Path) -> Mapping[str, Any]:
    labels: list[int] = []
    skipped: list[str] = []

    def read(i: int) -> np.ndarray | str:
        try:
            return square(part.read(i), how, whole_image)
        except Exception as error:  # each decoder fails in its own way; all of them mean that there is no image
            return f"{part.names[i]}: {kind_and_first_line(error)[:140]}"

    with ThreadPoolExecutor() as pool, open(folder / PIXELS, "wb") as file:
        for start in range(0, len(part), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(part)))
            for i, found in zip(chunk, pool.map(read, chunk), strict=True):
                if isinstance(found, str):
                    skipped.append(found)
                else:
                    file.write(found.tobytes())
                    labels.append(int(part.labels[i]))
    np.save(folder / LABELS, np.array(labels, dtype=np.int64))
    (folder / SKIPPED).write_text(json.dumps(skipped, indent=1))
    return {"count": len(labels), "skipped": skipped}


CALIBRATION_IMAGES = 2048  # of the validation part, at most: a threshold needs no more
_CALIBRATION_SHARE = 0.75  # of those; scales are chosen on them and verified on the others
LEAST_TO_CALIBRATE = 2  # validation images: one to calibrate on, another to verify with
_CALIBRATION_SEED = 104_729  # which those are: a folder's images are in the order of their classes


@dataclass(frozen=True)
class Labelled:
    """What labelled data gives a measurement."""

    test: LabelledImages
    validation: LabelledImages | None  # None: the data set has no image for it

    def timed_batch(self, batch_size: int, seed: int) -> np.ndarray:
        """Return the places [batch_size] of the test images that are timed: all different where there are enough."""
        order = np.random.Generator(np.random.Philox(seed)).permutation(self.test.count)
        return np.resize(order, batch_size)

    def calibration_images(self, at_most: int) -> np.ndarray:
        """Return the places of the validation images that scales are chosen on, ascending.

        No cell is verified or judged on these. The batch size has no part in the choice: all share a calibration.
        Raises CellError where there is no image to verify on beside them.
        """
        there = self.validation.count if self.validation is not None else 0
        if there < LEAST_TO_CALIBRATE:
            raise CellError(
                f"{counted(there, 'readable validation image')}, and int8 needs {LEAST_TO_CALIBRATE}: one to "
                "calibrate on and another to verify with"
            )
        return np.sort(self._validation_order()[: min(at_most, self._calibrated_at_most())])

    def verification_images(self, batch_size: int) -> np.ndarray:
        """Return the places [batch_size] of the validation images that cells are verified with."""
        order = self._validation_order()
        left = order[self._calibrated_at_most() :] if len(order) >= LEAST_TO_CALIBRATE else order
        return np.resize(left, batch_size)

    def _validation_order(self) -> np.ndarray:
        assert self.validation is not None
        return np.random.Generator(np.random.Philox(_CALIBRATION_SEED)).permutation(self.validation.count)

    def _calibrated_at_most(self) -> int:
        assert self.validation is not None
        return max(1, int(_CALIBRATION_SHARE * self.validation.count))


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
    if data.name != UNLABELLED and spec(model.name).inputs is not None:
        raise UserError(
            f"data={data.name} is of labelled images, and model={model.name} says by `inputs` what it takes: there are "
            "no labels for that; use data=synthetic, and accuracy stays out."
        )
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
