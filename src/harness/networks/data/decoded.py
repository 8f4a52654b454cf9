"""Images decoded once, kept as bytes in the cache: workers map the file, so no image library runs beside a clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.networks.data.dataset import DataSet, Part, subset
from harness.networks.data.preprocessing import DECODING, Preprocessing, normalised, square
from harness.system.cache import Cache, key_of
from harness.system.counts import counted
from harness.system.errors import UserError, kind_and_first_line

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
    kept = min(count, images.count)
    return replace(images, count=kept, digest=f"{images.digest}[:{kept}]")


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
