"""Structured pruning: whole channels go, the weakest by the L2 norm of everything that is coupled to them.

Of a ViT: whole heads, and channels within the MLPs (`pruning_vit.py`).

DepGraph (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023), by torch-pruning. The channels that stay
keep their weights. Channels are counted down to a multiple of `round_to`, so compare variants by measured GMACs, or ask
for `target_gmacs`.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn
from torchvision.models import DenseNet, VisionTransformer

from harness.networks.determinism import single_threaded
from harness.networks.shapes import output_shapes
from harness.system.errors import UserError, kind_and_first_line
from harness.techniques.arch.anatomy import image_size, layers_that_run, num_classes, output_layer
from harness.techniques.arch.macs import count_macs
from harness.techniques.arch.options import PrunedOptions
from harness.techniques.arch.pruning_plan import Coupling, Plan, read_couplings, search
from harness.techniques.arch.pruning_vit import check_vit, prune_vit

name = "pruned"


def check(model: nn.Module, options: PrunedOptions) -> None:
    """Raise UserError for a ratio, rounding or target that can't be had, and for a network that can't be pruned.

    Milliseconds for a ratio on a DenseNet or ViT; another network is pruned to know, and a target takes a trace of the
    model to know the least that can be reached (seconds).
    """
    if options.round_to is not None and options.round_to < 1:
        raise UserError(f"arch.pruned.round_to={options.round_to} is no multiple: it must be 1 or more, or null")
    if options.target_gmacs is None and not 0 < options.ratio < 1:
        raise UserError(f"arch.pruned.ratio={options.ratio} is no share of channels: it must be above 0 and below 1")
    if isinstance(model, VisionTransformer):
        check_vit(model, options)
        return
    _check_followable(model)
    if options.target_gmacs is not None:
        _check_target(model, options.target_gmacs, options.round_to)
        return
    last = output_layer(model)
    widths = [
        part.out_channels if isinstance(part, nn.Conv2d) else part.out_features
        for layer_name, part in layers_that_run(model).items()
        if last is None or layer_name != last[0]
    ]
    if all(kept(width, options.ratio, options.round_to) == width for width in widths):
        raise UserError(
            f"arch.pruned.ratio={options.ratio} with round_to={options.round_to} prunes nothing: "
            f"every layer (of {min(widths)} to {max(widths)} channels) would round to none and is kept whole"
        )
    if not isinstance(model, DenseNet):
        apply(model, options)


def apply(model: nn.Module, options: PrunedOptions) -> nn.Module:
    """Return a pruned copy of `model`; the layer that makes the logits keeps its outputs.

    A layer that rounds to no channel at all is left whole. Raises UserError where torch-pruning can't follow `model`.
    """
    changed = copy.deepcopy(model).requires_grad_(True)  # the tracer follows gradients through the network
    with single_threaded(), torch.enable_grad():
        if isinstance(changed, VisionTransformer):
            prune_vit(changed, options)
        elif options.target_gmacs is None:
            _prune(changed, options.ratio, {}, options.round_to)
        else:
            plan, couplings = _plan(changed, options.target_gmacs, options.round_to)
            # Half a channel more than is to stay, so that torch-pruning's rounding down lands on it exactly.
            ratios = {part.root: 1 - (plan.kept[part.root] + 0.5) / part.channels for part in couplings}
            _prune(changed, 0.0, {changed.get_submodule(root): max(0.0, r) for root, r in ratios.items()}, None)
    return changed.eval().requires_grad_(False)


def kept(channels: int, ratio: float, round_to: int | None) -> int:
    """Return how many of `channels` stay, as torch-pruning counts them: rounded down, and never to none."""
    left = int(channels * (1 - ratio))
    return left - left % (round_to or 1) or channels


def _check_followable(model: nn.Module) -> None:
    """Raise UserError for a network with parameters outside of layers, which the tracer would follow wrongly or never.

    A scale of each channel (ConvNeXt's `layer_scale`) is pruned with the channels.
    """
    for owner_name, owner in model.named_modules():
        bare = [key for key, _ in owner.named_parameters(recurse=False) if key not in ("weight", "bias", "layer_scale")]
        if bare:
            where = f"{owner_name}.{bare[0]}".lstrip(".")
            raise UserError(
                f"arch=pruned can't follow {where} of {type(model).__name__}, a parameter outside of layers: "
                "it prunes convolutional networks, and heads and MLPs of torchvision's VisionTransformer"
            )


def _prune(model: nn.Module, ratio: float, ratios: dict[nn.Module, float], round_to: int | None) -> None:
    import torch_pruning

    side, before = image_size(model), num_classes(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_pruning.pruner.BasePruner(
                model,
                _trace_input(model),
                importance=torch_pruning.importance.MagnitudeImportance(p=2),
                pruning_ratio=ratio,
                pruning_ratio_dict=ratios,
                ignored_layers=_ignored(model),
                round_to=round_to,
            ).step()
        after = output_shapes(model, (3, side, side))
    except Exception as error:  # its tracer fails in its own ways on what it does not know
        raise UserError(
            f"arch=pruned: torch-pruning can't prune {type(model).__name__}: {kind_and_first_line(error)[:180]}"
        ) from error
    if after != ((before,),):
        raise UserError(f"arch=pruned: torch-pruning changed the logits of {type(model).__name__}: {before} to {after}")


def _check_target(model: nn.Module, target: float, round_to: int | None) -> None:
    side = image_size(model)
    whole = count_macs(model, (3, side, side)) / 1e9
    if not 0 < target < whole:
        raise UserError(
            f"arch.pruned.target_gmacs={target} is no reduction: the model has {whole:.4g} GMACs at {side} pixels"
        )
    traced = copy.deepcopy(model).requires_grad_(True)
    with torch.enable_grad():
        _plan(traced, target, round_to)


def _plan(model: nn.Module, target: float, round_to: int | None) -> tuple[Plan, tuple[Coupling, ...]]:
    side = image_size(model)
    couplings = read_couplings(model, _trace_input(model), _ignored(model))
    return search(model, couplings, (3, side, side), target, round_to), couplings


def _trace_input(model: nn.Module) -> torch.Tensor:
    side = image_size(model)
    return torch.zeros(1, 3, side, side)


def _ignored(model: nn.Module) -> list[nn.Module]:
    last = output_layer(model)
    return [last[1]] if last is not None else []
