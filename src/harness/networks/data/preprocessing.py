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

DECODING = 2  # another number whenever the same file gives other pixels
_MOST_16_BIT = 65_535
_MOST_ASPECT = 8  # of a strip; the square that is cut out is well within
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
    rgb = _without_ends(upright_rgb(image), whole_image)
    mode = InterpolationMode(how.interpolation)
    if whole_image:
        sized = transforms.resize(rgb, [side, side], interpolation=mode)
    else:
        sized = transforms.center_crop(transforms.resize(rgb, [how.resize], interpolation=mode), [side, side])
    return np.ascontiguousarray(np.asarray(sized).transpose(2, 0, 1))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an image in 8 bit RGB as a viewer shows it: turned as its camera noted, on white where it is transparent.

    16 bits are scaled to 8, where Pillow's own conversion clips them. Raises ValueError for pixels without a range of
    their own (32 bits, floating point): nobody but their author can tell what is white.
    """
    from PIL import Image, ImageOps

    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = ImageOps.exif_transpose(image)
    if sixteen:
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > _MOST_16_BIT):
            raise ValueError(
                f"pixels from {values.min()} to {values.max()} are more than 16 bits: save it with 8 or 16"
            )
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} (32 bits) have no range of their own: save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        see_through = image.convert("RGBA")
        white = Image.new("RGBA", see_through.size, "white")
        return Image.alpha_composite(white, see_through).convert("RGB")
    return image.convert("RGB")


def _without_ends(image: Image.Image, whole_image: bool) -> Image.Image:
    """Return the middle of a long strip, of which the centre is cut out anyway: resized it would fill the memory."""
    width, height = image.size
    short, long = sorted((width, height))
    most = _MOST_ASPECT * short
    if whole_image or long <= most:
        return image
    start = (long - most) // 2
    box = (start, 0, start + most, height) if width > height else (0, start, width, start + most)
    return image.crop(box)


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
    try:
        given = json.loads(text)
        return Preprocessing(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"model.weights={path}: its metadata {CHECKPOINT_KEY} is not what harness.train writes: {text[:60]!r}"
        ) from error


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
