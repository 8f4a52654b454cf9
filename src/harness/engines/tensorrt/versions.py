"""What releases of one package differ in: the one table, read off what the package has, not off its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Feature:
    """Something that this room uses where a release has it."""

    name: str
    present: Callable[[Any], bool]  # given the imported package
    since: str  # the first release of TensorRT that has it
    without: str  # what a build does where it is missing


TILING = Feature(
    "tiling",
    lambda trt: hasattr(trt, "TilingOptimizationLevel"),
    since="10.8",  # read off the packages: 10.7.0 has no such name, 10.8.0.43 does
    without="fusion builds without tiling, engine.tiling is refused",
)
FEATURES = (TILING,)
OLDEST = (10, 6)  # the oldest release this room was run on


def missing_features(trt: Any) -> tuple[Feature, ...]:
    """Return what the installed package lacks of the table."""
    return tuple(feature for feature in FEATURES if not feature.present(trt))


def missing_in_words(trt: Any) -> str:
    """Return what the installed package lacks, on one line; "" if it has everything."""
    lacks = (f"no {one.name} ({one.since} or newer): {one.without}" for one in missing_features(trt))
    return "; ".join(lacks)
