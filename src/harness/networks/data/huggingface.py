"""A data set of the Hugging Face hub by name, or one that lies on this machine, read by the `datasets` library."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import DataConfig
from harness.networks.data.dataset import DataSet, Part, digest_of, subset, with_validation
from harness.system.errors import UserError, first_line
from harness.system.library_internals import dataset_fingerprint

if TYPE_CHECKING:
    from PIL import Image

PART_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


def read(cfg: DataConfig) -> DataSet:
    """Return the data set; raise UserError where it can't be had or has no images with classes."""
    if cfg.path is None:
        raise UserError("data=huggingface needs data.path: a data set's name on the hub, or a local path.")
    try:
        import datasets
    except ImportError:
        raise UserError(
            "data=huggingface needs the datasets library: pip install 'interaction-harness[data]'."
        ) from None
    datasets.disable_progress_bars()
    found = _load(datasets, cfg)
    splits = found if isinstance(found, dict) else {"train": found}
    known = {PART_NAMES[name]: split for name, split in splits.items() if name in PART_NAMES}
    if not known:
        raise UserError(
            f"data.path={cfg.path}: no part is called train, validation or test; found {', '.join(splits)}."
        )
    features = next(iter(known.values())).features
    image = _column(cfg.image_column, "image_column", features, datasets.Image)
    label = _column(cfg.label_column, "label_column", features, datasets.ClassLabel)
    classes = tuple(features[label].names)
    # decoded by us, so that one corrupt image is one skipped image and no end of the run
    raw = {name: split.cast_column(image, datasets.Image(decode=False)) for name, split in known.items()}
    given = {name: _part(name, split, image, label) for name, split in raw.items()}
    # a hub's test part often hides all of its labels
    given = {name: part for name, part in given.items() if len(part) or not part.left_out}
    return DataSet(
        f"huggingface {cfg.path}", classes, with_validation(given, cfg.split_shares, f"data.path={cfg.path}")
    )


def _load(datasets: Any, cfg: DataConfig) -> Any:
    assert cfg.path is not None
    try:
        if (Path(cfg.path) / "dataset_dict.json").is_file() or (Path(cfg.path) / "state.json").is_file():
            return datasets.load_from_disk(cfg.path)
        return datasets.load_dataset(cfg.path, cfg.subset)
    except Exception as error:  # the library, the hub and the file system each fail in their own way
        raise UserError(f"data.path={cfg.path}: the data set can't be loaded: {first_line(error)[:200]}") from error


def _column(requested: str | None, option: str, features: Any, kind: type) -> str:
    able: list[str] = [name for name, feature in features.items() if isinstance(feature, kind)]
    if requested is not None and requested in able:
        return requested
    if requested is None and len(able) == 1:
        return able[0]
    needed = "one column" if requested is None else f"a column {requested!r}"
    raise UserError(
        f"data.{option}={requested}: needs {needed} of type {kind.__name__}; "
        f"found {', '.join(able) or 'none'} among {', '.join(features)}."
    )


def _part(name: str, split: Any, image: str, label: str) -> Part:
    # -1 is how the library writes a label that is not known
    labels = np.array([-1 if value is None else value for value in split[label]], dtype=np.int64)

    def load(i: int) -> Image.Image:
        from PIL import Image

        given = split[i][image]
        return Image.open(io.BytesIO(given["bytes"]) if given["bytes"] is not None else given["path"])

    names = tuple(f"{name} {i}" for i in range(len(split)))
    part = Part(names, labels, load, digest_of([name, dataset_fingerprint(split), str(len(split))]))
    if not (labels < 0).any():
        return part
    left_out = tuple(f"{names[i]}: it has no label" for i in np.flatnonzero(labels < 0))
    return replace(subset(part, np.flatnonzero(labels >= 0)), left_out=left_out)
