"""A directory of class folders, as torchvision's ImageFolder reads it: `cat/1.jpg`, or `train/cat/1.jpg` and so on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.config import DataConfig
from harness.networks.data.dataset import DataSet, Part, digest_of, split, with_validation
from harness.system.counts import counted
from harness.system.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".jpe", ".jfif", ".jp2", ".avif", ".heic", ".heif"),  # some of these can't be read everywhere: named then
)
PART_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}
# what systems leave behind, with copies and previews of images in it
_LEFT_BEHIND = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__")


def read(cfg: DataConfig) -> DataSet:
    """Return the folder's images, not opened yet; raise UserError where it has no class folders with images."""
    if cfg.path is None:
        raise UserError("data=image_folder needs data.path: a directory with a folder of images for each class.")
    root = Path(cfg.path).expanduser()
    if not root.is_dir():
        raise UserError(f"data.path={cfg.path}: there is no such directory.")
    given_parts = _given_parts(root, cfg.path)
    if given_parts:
        classes = sorted({name for folder in given_parts.values() for name in _class_names(folder)})
        given = {name: _part(root, folder, classes) for name, folder in given_parts.items()}
        parts = with_validation(given, cfg.split_shares, f"data.path={cfg.path}")
    else:
        classes = _class_names(root)
        given = {"all": _part(root, root, classes)}
        parts = split(given["all"], cfg.split_shares)
    if not sum(map(len, given.values())):
        raise UserError(
            f"data.path={cfg.path}: no image in {counted(len(classes), 'class folder')}; "
            f"images end in {', '.join(SUFFIXES[:4])} and so on, and lie in a folder named after their class."
        )
    shown = tuple(_shown(name) for name in classes)
    return DataSet(f"image_folder {cfg.path}", shown, parts)


def _given_parts(root: Path, path: str) -> dict[str, Path]:
    """Return the folders of a data set's own parts, train and test in any case; none where its folders are classes.

    Raises UserError where two folders are the same part, and where there are parts beside classes.
    """
    folders = [root / name for name in _class_names(root)]
    parts = [folder for folder in folders if folder.name.lower() in PART_FOLDERS and not _has_images_itself(folder)]
    others = [folder for folder in folders if folder not in parts and any(True for _ in _images(folder))]
    if not parts or (len(parts) == 1 and others):  # a class may be called "train"
        return {}
    found: dict[str, Path] = {}
    for folder in parts:
        part = PART_FOLDERS[folder.name.lower()]
        if part in found:
            raise UserError(
                f"data.path={path}: both {found[part].name} and {folder.name} are its {part} part; keep one."
            )
        found[part] = folder
    if others:
        raise UserError(
            f"data.path={path}: {' and '.join(folder.name for folder in parts)} are its parts, and "
            f"{_shown(others[0].name)} beside them has images too: move it into one of them, or elsewhere."
        )
    return found


def _class_names(folder: Path) -> list[str]:
    """Return the folders in one, hidden ones left out; raise UserError for a link that may have been one of them."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not _is_hidden(entry.name))
        lost = next((entry for entry in entries if _leads_nowhere(entry)), None)
        if lost is not None:  # a class less, and the others would have other numbers
            raise UserError(
                f"{_shown(str(lost))}: a link that leads nowhere, where class folders are: repair or remove it."
            )
        return [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise UserError(f"{error.filename}: can't be listed ({error.strerror}).") from error


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def _has_images_itself(folder: Path) -> bool:
    return any(path.parent == folder for path in _images(folder))


def _images(folder: Path) -> Iterator[Path]:
    """Give the image files below a folder, through links too, but nothing hidden at any depth.

    A link to nothing is given whatever its name: it may have been a folder of images, and is named when it can't be
    read. A link to what the folder lies in is not followed: the images of all classes are there.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be listed ({error.strerror}).") from error

    top = folder.resolve()
    seen: set[Path] = set()  # a link may lead in a circle
    for place, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        real = Path(place).resolve()
        if real in seen or real in top.parents:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        shown = (Path(place, name) for name in files if not _is_hidden(name))
        yield from (path for path in shown if _is_image(path.name) or _leads_nowhere(path))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _part(root: Path, folder: Path, classes: Sequence[str]) -> Part:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        below = folder / name
        found = sorted(_images(below)) if below.is_dir() else []
        paths += found
        labels += [label] * len(found)
    names = tuple(_shown(str(path.relative_to(root))) for path in paths)
    states = [_state(path) for path in paths]
    return Part(names, np.array(labels, dtype=np.int64), lambda i: _open(paths[i]), digest_of([*names, *states]))


def _state(path: Path) -> str:
    """Return what changes when an image is replaced under its name; a broken link is found when it is read."""
    try:
        found = path.stat()
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{found.st_size} {found.st_mtime_ns}"


def _shown(name: str) -> str:
    """Return a name as it can be printed and kept: bytes that are no UTF-8 as escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _open(path: Path) -> Image.Image:
    from PIL import Image

    return Image.open(path)
