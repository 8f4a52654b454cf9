"""How an image becomes an input: as the model's own weights were trained, unless the options say otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import DataConfig
from harness.system.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from harness.config import ModelConfig

CHECKPOINT_KEY = "harness.preprocessing"  # in the metadata of a .safetensors file that `harness.train` wrote


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side to `resize` pixels, the centre square of `image_size` pixels, scaled to [0, 1], (x - mean) / std.

    The defaults are ImageNet's convention, which training from scratch keeps to.
    """

    image_size: int
    resize: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # red, green, blue
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def to_json(self) -> str:
        """Return this as JSON, as a checkpoint carries it."""
        return json.dumps(asdict(self), sort_keys=True)


def preprocessing(model: ModelConfig, data: DataConfig) -> Preprocessing:
    """Return the preprocessing of a model's weights at its image size, with what `data` overrides."""
    found = _of_weights(model)
    if found.image_size != model.image_size:  # the same share of the picture, at another size
        resize = round(found.resize * model.image_size / found.image_size)
        found = replace(found, image_size=model.image_size, resize=resize)
    given: dict[str, Any] = {}
    if data.resize is not None:
        given["resize"] = data.resize
    if data.mean is not None:
        given["mean"] = tuple(data.mean)
    if data.std is not None:
        given["std"] = tuple(data.std)
    found = replace(found, **given)
    if found.resize < found.image_size:
        raise UserError(f"data.resize={found.resize} is below model.image_size={found.image_size}: nothing to cut out.")
    return found


def square(image: Image.Image, how: Preprocessing, whole_image: bool) -> np.ndarray:
    """Return [3, S, S] uint8 of one image; `whole_image` resizes all of it, else the centre is cut out."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    side = how.image_size
    rgb = image.convert("RGB")
    mode = InterpolationMode(how.interpolation)
    if whole_image:
        sized = transforms.resize(rgb, [side, side], interpolation=mode)
    else:
        sized = transforms.center_crop(transforms.resize(rgb, [how.resize], interpolation=mode), [side, side])
    return np.ascontiguousarray(np.asarray(sized).transpose(2, 0, 1))


def normalised(pixels: np.ndarray, how: Preprocessing) -> np.ndarray:
    """Return [N, 3, S, S] float32 for the network from [N, 3, S, S] uint8."""
    mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (how.mean, how.std))
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def _of_weights(model: ModelConfig) -> Preprocessing:
    usual = Preprocessing(224, 256)
    if model.weights is None:
        return usual
    if model.weights.endswith(".safetensors"):
        return _of_checkpoint(Path(model.weights).expanduser()) or usual
    return _of_torchvision(model) or usual


def _of_checkpoint(path: Path) -> Preprocessing | None:
    """Return what `harness.train` noted in a checkpoint; None for a file of somebody else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(CHECKPOINT_KEY)
    except (OSError, SafetensorError):
        return None  # who loads the weights says what is wrong with the file
    if text is None:
        return None
    given = json.loads(text)
    return Preprocessing(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})


def _of_torchvision(model: ModelConfig) -> Preprocessing | None:
    import torchvision.models

    from harness.networks import spec

    enum = spec(model.name).torchvision_weights
    member = getattr(torchvision.models, enum).__members__.get(model.weights) if enum else None
    if member is None:
        return None
    preset = member.transforms()
    return Preprocessing(
        image_size=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
