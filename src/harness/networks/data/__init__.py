"""Data: where the inputs of a measurement come from, and the labels if there are any.

`open_dataset` gives a labelled data set by name; `labelled` what is measured and calibrated on. Importing this imports
no torch and no data library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from harness.config import DataConfig
from harness.system.errors import UserError

if TYPE_CHECKING:
    from harness.networks.data.dataset import DataSet

UNLABELLED = "synthetic"
LABELLED = ("digits", "image_folder", "huggingface")  # one module each
_OF_LABELS = ("seed", "path", "split_shares", "limit", "mean", "std")
READ = {  # the options `data.*` that each of them reads; where a path is none, `check_data` says so
    UNLABELLED: ("seed", "path"),
    "digits": _OF_LABELS,  # shown whole, whatever `resize` says
    "image_folder": (*_OF_LABELS, "resize"),
    "huggingface": (*_OF_LABELS, "resize", "subset", "image_column", "label_column"),
}


def open_dataset(cfg: DataConfig) -> DataSet | None:
    """Return the labelled data set of that name, None for synthetic images; raise UserError where it can't be had."""
    if cfg.name == UNLABELLED:
        return None
    if cfg.name not in LABELLED:
        raise UserError(f"data={cfg.name}: choose one of {', '.join((UNLABELLED, *LABELLED))}.")
    found: DataSet = import_module(f"harness.networks.data.{cfg.name}").read(cfg)
    return found
