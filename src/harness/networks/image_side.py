"""The side of the images that a network was built for, carried along under a name that no network uses itself.

Many networks have an `image_size` of their own that means something else: that is theirs to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_NAME = "_harness_image_side"


def image_side(network: nn.Module) -> int | None:
    """Return the side (pixels) of the images that `network` was built for; None where it was never told."""
    found: int | None = vars(network).get(_NAME)
    return found


def carry_image_side(network: nn.Module, side: int) -> None:
    """Let `network` and its copies carry `side` (pixels), past what its class does when attributes are set."""
    vars(network)[_NAME] = side
