"""What a data set is to the rest of the harness: classes, and parts whose images are read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.system.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

PARTS = ("train", "validation", "test")  # to learn from; to choose by (early stopping, thresholds); to report


@dataclass(frozen=True)
class Part:
    """Some labelled images of a data set, not read yet."""

    names: tuple[str, ...]  # of the images, as a list of skipped ones shows them
    labels: np.ndarray  # [N] int64
    read: Callable[[int], Image.Image]  # raises whatever the decoder raises for an image that is corrupt
    digest: str  # changes when the content does
    left_out: tuple[str, ...] = ()  # images that are in no part, and why, as a list of skipped ones shows them

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class DataSet:
    """Labelled images in three parts."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]  # all of PARTS
    whole_image: bool = False  # resized as it is, nothing cut off at the edges
    mirrored: bool = True  # a mirror image is of the same class: training may use it


def digest_of(texts: Sequence[str]) -> str:
    """Return the SHA-256 of texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def part_of(names: Sequence[str], shares: Sequence[float]) -> np.ndarray:
    """Return [N] int: which of PARTS each name belongs to.

    Decided by the name alone, so that an image that is added or lost moves no other one.
    """
    total = sum(shares)
    edges = np.cumsum([share / total for share in shares])
    places = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in names]
    # the last edge may be a rounding below 1
    return np.minimum(np.searchsorted(edges, places, side="right"), len(shares) - 1)


def subset(part: Part, chosen: np.ndarray) -> Part:
    """Return the images of `part` at the places `chosen` [M] int."""
    places = chosen.tolist()
    names = tuple(part.names[place] for place in places)
    return Part(names, part.labels[chosen], lambda i: part.read(places[i]), digest_of([part.digest, *names]))


def split(part: Part, shares: Sequence[float]) -> dict[str, Part]:
    """Return all parts, cut from one by `part_of`; what it left out is told with the test images."""
    owner = part_of(part.names, shares)
    parts = {name: subset(part, np.flatnonzero(owner == number)) for number, name in enumerate(PARTS)}
    return parts | {"test": replace(parts["test"], left_out=part.left_out)}


def with_validation(given: Mapping[str, Part], shares: Sequence[float], what: str) -> dict[str, Part]:
    """Return all parts where a data set has some of its own; validation is cut from train where it lacks one.

    Raises UserError where there is nothing to test on.
    """
    if set(given) == {"train"}:
        return split(given["train"], shares)
    parts = dict(given)
    if "test" not in parts:
        if "validation" not in parts:
            raise UserError(f"{what}: no part to test on; found {', '.join(given) or 'none'}.")
        parts["test"] = parts.pop("validation")
    train = parts.get("train")
    if "validation" not in parts:
        source = "test" if train is None else "train"  # without training images, thresholds are chosen on test images
        cut = split(parts[source], (shares[0] + shares[2], shares[1], 0))
        parts[source] = replace(cut["train"], left_out=parts[source].left_out)
        parts["validation"] = cut["validation"]
    if train is None:
        parts["train"] = subset(parts["test"], np.arange(0))
    return {name: parts[name] for name in PARTS}


def images(seed: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return [count, *shape] float32 from a fixed seed; image i does not depend on `count`."""
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.standard_normal((count, *shape), dtype=np.float32)
