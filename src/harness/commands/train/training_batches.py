"""Batches for training: decoded images on the device, shuffled and moved a little by a seed that an epoch has."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F

from harness.networks.data.labelled import LabelledImages

# As one tensor on the device below this, else mapped from the file and copied batch by batch.
WHOLE_BYTES = {"cpu": 2 * 2**30, "cuda": 8 * 2**30}
ROTATION_DEGREES, ZOOM = 8.0, 0.08  # largest random ones, beside `train.shift`; both are off where that is 0


class Batches:
    """The images of one part on a device: a small part lies there as one tensor."""

    def __init__(self, images: LabelledImages, device: str) -> None:
        self.count = images.count
        self.skipped = images.skipped
        self._device = device
        self._pixels: torch.Tensor | np.ndarray = images.pixels()
        if self._pixels.nbytes <= WHOLE_BYTES[device]:
            self._pixels = torch.from_numpy(np.array(self._pixels)).to(device)
        self._labels = torch.from_numpy(images.labels()[: images.count]).to(device)
        how = images.preprocessing
        self._mean, self._std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (how.mean, how.std))

    def take(self, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs [B, 3, S, S] float32 and labels [B] of the images at `places` [B] int."""
        index = torch.from_numpy(places).to(self._device)
        if isinstance(self._pixels, torch.Tensor):
            pixels = self._pixels[index]
        else:
            pixels = torch.from_numpy(self._pixels[places]).to(self._device)
        return (pixels.float() / 255 - self._mean) / self._std, self._labels[index]

    def in_order(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield all images once, the last batch as small as it comes."""
        for start in range(0, self.count, batch_size):
            yield self.take(np.arange(start, min(start + batch_size, self.count)))

    def shuffled(
        self, batch_size: int, seed: int, epoch: int, shift: float, mirror: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield an epoch's batches, changed at random; the same for the same seed and epoch, whatever came before.

        An incomplete last batch is left out: batch normalisation would learn from the few in it.
        """
        generator = np.random.Generator(np.random.Philox([seed, epoch]))
        order = generator.permutation(self.count)
        for start in range(0, steps_of(self.count, batch_size) * batch_size, batch_size):
            images, labels = self.take(order[start : start + batch_size])
            yield moved(images, generator, shift, mirror), labels


def steps_of(count: int, batch_size: int) -> int:
    """Return how many batches an epoch has; a part smaller than a batch is one."""
    return max(1, count // batch_size)


def moved(images: torch.Tensor, generator: np.random.Generator, shift: float, mirror: bool) -> torch.Tensor:
    """Return [B, 3, S, S], each image shifted by up to `shift` of its side, turned and zoomed a little.

    The edge is repeated outwards.
    """
    if shift == 0 and not mirror:
        return images
    count = len(images)
    moving = 1.0 if shift else 0.0
    angle = generator.uniform(-1, 1, count) * math.radians(ROTATION_DEGREES) * moving
    zoom = 1 + generator.uniform(-1, 1, count) * ZOOM * moving
    flip = np.where(generator.random(count) < 0.5, -1.0, 1.0) if mirror else np.ones(count)
    offset = generator.uniform(-1, 1, (count, 2)) * 2 * shift  # the grid goes from -1 to 1
    matrix = np.stack(
        [
            np.stack([flip * zoom * np.cos(angle), -zoom * np.sin(angle), offset[:, 0]], axis=1),
            np.stack([flip * zoom * np.sin(angle), zoom * np.cos(angle), offset[:, 1]], axis=1),
        ],
        axis=1,
    )  # [B, 2, 3]: where in the given image each pixel comes from
    theta = torch.from_numpy(matrix.astype(np.float32)).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
