"""Model by name -> a network ready to measure, and an input it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config import ModelConfig
from harness.networks import registry
from harness.system.errors import UserError, kind_and_first_line

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(cfg: ModelConfig) -> nn.Module:
    """Return the network of `cfg`: in eval mode, without gradients, input [B, 3, S, S], output [B, num_classes].

    The same config gives bit-identical weights in every process, and the caller's random state is left alone.
    The network carries its `image_size` (pixels), so that later rooms can trace and count it without the config.
    Raises UserError for an unknown name, an impossible size, or weights that can't be had.
    """
    spec = registry.spec(cfg.name)
    if cfg.image_size < spec.min_image_size:
        raise UserError(
            f"model.image_size={cfg.image_size} is too small: {cfg.name} needs at least {spec.min_image_size} pixels"
        )
    if cfg.num_classes < 1:
        raise UserError(f"model.num_classes={cfg.num_classes} makes no classifier: it must be 1 or more")

    from harness.networks.determinism import seeded
    from harness.networks.weights import load_weights, settle

    with seeded(cfg.seed):
        network = spec.create(cfg).eval()
        _check_shapes(network, cfg)
        if spec.settle and cfg.weights is None:
            settle(network, cfg.image_size)
    if cfg.weights is not None:
        load_weights(network, spec, cfg.weights)
    network.image_size = cfg.image_size  # type: ignore[assignment]
    return network.eval().requires_grad_(False)


def example_input(cfg: ModelConfig, batch_size: int) -> torch.Tensor:
    """Return [batch_size, 3, S, S] float32 from a standard normal, the same for the same config."""
    import torch

    generator = torch.Generator().manual_seed(cfg.seed)
    return torch.randn(batch_size, 3, cfg.image_size, cfg.image_size, generator=generator)


def _check_shapes(network: nn.Module, cfg: ModelConfig) -> None:
    """Raise UserError unless the network takes images of that size and gives one logit a class."""
    from harness.networks.shapes import output_shapes

    side = cfg.image_size
    try:
        found = output_shapes(network, (3, side, side))
    except Exception as error:  # whatever its layers say about a size that does not fit
        raise UserError(
            f"model={cfg.name} can't take images [3, {side}, {side}] (model.image_size={side}): "
            f"{kind_and_first_line(error)[:180]}"
        ) from error
    if found != ((cfg.num_classes,),):
        shown = ", ".join(str(["B", *shape]).replace("'", "") for shape in found)
        raise UserError(
            f"model={cfg.name} gives {shown}, not [B, {cfg.num_classes}]: one logit for each of model.num_classes"
        )
