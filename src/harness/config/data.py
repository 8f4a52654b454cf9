"""The options of the group `data`."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.config.ranges import Ranges, at_least


@dataclass
class DataConfig:
    """Where the inputs come from, and the labels if there are any."""

    name: str = "synthetic"  # synthetic | digits | image_folder | huggingface
    seed: int = 1234  # of synthetic images, and of which labelled ones are timed
    path: str | None = None  # image_folder: the directory; huggingface: a data set's name or a local path
    subset: str | None = None  # huggingface: which configuration of the data set
    image_column: str | None = None  # huggingface; None: the only column that holds images
    label_column: str | None = None  # huggingface; None: the only column that holds classes
    # train, validation, test: of what comes without parts of its own; validation is also taken from a lone train part
    split_shares: list[float] = field(default_factory=lambda: [0.7, 0.1, 0.2])
    limit: int | None = None  # test images at most, a fixed random choice; None: all
    # None: as the model's weights were trained, else ImageNet's convention
    resize: int | None = None  # pixels of the shorter side, before the centre is cut out
    mean: list[float] | None = None  # red, green, blue, of values in [0, 1]
    std: list[float] | None = None  # red, green, blue


DATA_RANGES: Ranges = {"seed": at_least(0)}  # which names there are is for the room of the data sets to say
