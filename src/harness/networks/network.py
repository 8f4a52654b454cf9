"""Model by name -> a network ready to measure, and an input it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config import ModelConfig
from harness.networks import registry
from harness.networks.inputs import carry_inputs, declared, image_inputs
from harness.system.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(cfg: ModelConfig, checked: bool = False) -> nn.Module:
    """Return the network of `cfg`: in eval mode, without gradients.

    It takes images [B, 3, S, S] and gives [B, num_classes], or takes what its author's `inputs` says and gives any.

    The same config gives bit-identical weights in every process, and the caller's random state is left alone.
    The network carries what it takes (`inputs_of`), so that later rooms can trace and count it without the config.
    Raises UserError for an unknown name, an impossible size, weights that can't be had, and a network or inputs that
    nothing can be compared with (`first_run.py`, `inputs.py`), unless that was `checked` already.
    """
    spec = registry.spec(cfg.name)
    if cfg.image_size < spec.min_image_size:
        raise UserError(
            f"model.image_size={cfg.image_size} is too small: {cfg.name} needs at least {spec.min_image_size} pixels"
        )
    if cfg.num_classes < 1:
        raise UserError(f"model.num_classes={cfg.num_classes} is not valid: it must be 1 or more")

    from harness.networks.determinism import seeded
    from harness.networks.first_run import check_answers, check_form, materialise
    from harness.networks.own_code import reported
    from harness.networks.shapes import for_inference
    from harness.networks.weights import load_weights, settle

    with seeded(cfg.seed):
        with reported(f"model={cfg.name} can't be built"):
            network = spec.create(cfg)
        network.eval()
        if spec.inputs is None:
            carry_inputs(network, image_inputs(cfg.image_size))
        else:
            carry_inputs(network, declared(cfg.name, spec.inputs, network, checked))
        materialise(network, cfg)
        if not checked:
            check_form(network, cfg)
        if spec.settle and cfg.weights is None:
            settle(network, cfg.image_size)
        if cfg.weights is not None:
            load_weights(network, spec, cfg.weights)
        for_inference(network)
        if not checked:
            check_answers(network, cfg)
    return network


def example_input(cfg: ModelConfig, batch_size: int) -> torch.Tensor:
    """Return [batch_size, 3, S, S] float32 from a standard normal, the same for the same config."""
    import torch

    generator = torch.Generator().manual_seed(cfg.seed)
    return torch.randn(batch_size, 3, cfg.image_size, cfg.image_size, generator=generator)
