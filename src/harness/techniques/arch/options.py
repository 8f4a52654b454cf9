"""The options of each architecture technique: `arch.NAME.FIELD`. Importing this imports no torch, for `--help` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config.declared import Switch
from harness.config.ranges import SHARE, Range, Ranges, at_least, between, one_of, positive


@dataclass
class ReducedGrowthOptions:
    """DenseNet with a smaller growth rate; draws new weights."""

    enabled: bool = False
    growth_rate: int = 24  # channels that each dense layer adds; 32 in DenseNet121
    seed: int = 2  # of the new weights


@dataclass
class ReducedDepthOptions:
    """Fewer blocks in each stage of a residual network, the counterpart of a reduced growth there; keeps weights."""

    enabled: bool = False
    depth: float = 0.5  # share of each stage's blocks that stays, rounded up


@dataclass
class PrunedOptions:
    """Structured pruning by L2 magnitude: channels of convolutions; heads and MLP width of a ViT."""

    enabled: bool = False
    ratio: float = 0.3  # share of the channels that goes
    target_gmacs: float | None = None  # prune down to this cost, instead of by `ratio`; None: by `ratio`
    round_to: int | None = 8  # channels are a multiple of this


@dataclass
class GroupedOptions:
    """Grouped convolutions: DenseNet's bottlenecks (`_DenseLayer.conv1`), else 3x3 (or larger), else 1x1 expansions."""

    enabled: bool = False
    groups: int = 4  # how many groups a convolution gets; must divide its channels


@dataclass
class LowRankOptions:
    """Truncated SVD of linear layers and 1x1 convolutions. At most one of rank, ratio, energy; none: a quarter."""

    enabled: bool = False
    classifier: bool = True  # factor the last linear layer
    linear: bool = True  # factor the other linear layers: the MLPs of a ViT
    attention: bool = True  # factor the projections of a ViT's attention
    conv1x1: bool = True  # factor the 1x1 convolutions
    rank: int | None = None  # the rank of every factored layer; None: by `ratio` or `energy`
    ratio: float | None = None  # of each layer, rank = ratio * min(in, out); None, as `rank` and `energy`: 0.25
    energy: float | None = None  # smallest rank that keeps this share of the squared singular values


@dataclass
class EarlyExitOptions:
    """Leave the network after a dense block (stage, encoder layer) when the exit head is sure enough."""

    enabled: bool = False
    after_block: int = 2  # counted from 1: dense blocks, stages of a ResNet or ConvNeXt, encoder layers of a ViT
    decision: str = "auto"  # auto | share | threshold; auto: share on unlabelled data, else threshold
    exit_share: float = 0.5  # share of each batch that leaves early
    threshold: float | None = None  # confidence in [0, 1]; None: calibrated to `exit_share`, or to the next one
    max_accuracy_drop: float | None = None  # labelled data: as many leave as cost at most this share of top-1
    seed: int = 1  # of the exit head's weights


# New widths before new structure. `reduced_growth` draws a new network, so it comes first; pruning needs the dense
# convolutions that `grouped` replaces; `low_rank` factorises what is left dense; `early_exit` splits the result.
OPTIONS: Mapping[str, type] = {
    "identity": Switch,
    "reduced_growth": ReducedGrowthOptions,
    "reduced_depth": ReducedDepthOptions,
    "pruned": PrunedOptions,
    "grouped": GroupedOptions,
    "low_rank": LowRankOptions,
    "early_exit": EarlyExitOptions,
}

_PART = Range(lambda value: 0 < value <= 1, "must be above 0 and at most 1")
# what holds for every network; what only this network can't do, each technique's `check` says
RANGES: Mapping[str, Ranges] = {
    "reduced_growth": {"growth_rate": at_least(1), "seed": at_least(0)},
    "reduced_depth": {"depth": between(0, 1)},
    "pruned": {"ratio": between(0, 1), "target_gmacs": positive(), "round_to": at_least(1)},
    "grouped": {"groups": at_least(1)},
    "low_rank": {"rank": at_least(1), "ratio": _PART, "energy": _PART},
    "early_exit": {
        "after_block": at_least(1),
        "decision": one_of("auto", "share", "threshold"),
        "exit_share": SHARE,
        "threshold": SHARE,
        "max_accuracy_drop": SHARE,
        "seed": at_least(0),
    },
}
