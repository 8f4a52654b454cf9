"""A directory of class folders, as torchvision's ImageFolder reads it: `cat/1.jpg`, or `train/cat/1.jpg` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.config import DataConfig
from harness.networks.data.dataset import DataSet, Part, digest_of, split, with_validation
from harness.system.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
PART_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


def read(cfg: DataConfig) -> DataSet:
    """Return the folder's images, not opened yet; raise UserError where it has no class folders with images."""
    if cfg.path is None:
        raise UserError("data=image_folder needs data.path: a directory with a folder of images for each class.")
    root = Path(cfg.path).expanduser()
    if not root.is_dir():
        raise UserError(f"data.path={cfg.path}: there is no such directory.")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    own_parts = {PART_FOLDERS[folder.name]: folder for folder in folders if folder.name in PART_FOLDERS}
    if own_parts and len(own_parts) == len(folders):
        classes = sorted({name for folder in own_parts.values() for name in _class_names(folder)})
        given = {name: _part(root, folder, classes) for name, folder in own_parts.items()}
        parts = with_validation(given, cfg.split_shares, f"data.path={cfg.path}")
    else:
        classes = _class_names(root)
        given = {"all": _part(root, root, classes)}
        parts = split(given["all"], cfg.split_shares)
    if not sum(map(len, given.values())):
        raise UserError(
            f"data.path={cfg.path}: no image in {len(classes)} class folders; "
            f"images end in {', '.join(SUFFIXES[:4])} and so on, and lie in a folder named after their class."
        )
    return DataSet(f"image_folder {cfg.path}", tuple(classes), parts)


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _part(root: Path, folder: Path, classes: Sequence[str]) -> Part:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        below = folder / name
        found = sorted(path for path in below.rglob("*") if path.suffix.lower() in SUFFIXES) if below.is_dir() else []
        paths += found
        labels += [label] * len(found)
    names = tuple(str(path.relative_to(root)) for path in paths)
    # an image that was replaced under its name has another size or time
    states = [f"{path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths]
    return Part(names, np.array(labels, dtype=np.int64), lambda i: _open(paths[i]), digest_of([*names, *states]))


def _open(path: Path) -> Image.Image:
    from PIL import Image

    return Image.open(path)
