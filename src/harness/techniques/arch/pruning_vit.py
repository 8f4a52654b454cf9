"""Pruning a ViT: whole heads of its attention and channels within its MLPs; the width of its tokens stays.

The tokens pass every layer by, so pruning their width would take the same channels from all of them; heads and MLP
channels are each layer's own (Michel et al., Are Sixteen Heads Really Better than One?, NeurIPS 2019).
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torchvision.models import VisionTransformer

from harness.system.errors import UserError
from harness.techniques.arch.anatomy import image_size
from harness.techniques.arch.attention import OpenAttention, open_attention
from harness.techniques.arch.options import PrunedOptions


def check_vit(model: VisionTransformer, options: PrunedOptions) -> None:
    """Raise UserError for a target in GMACs, and for a ratio that takes neither a head nor a channel."""
    if options.target_gmacs is not None:
        raise UserError("arch.pruned.target_gmacs is for convolutional networks: on a ViT set arch.pruned.ratio")
    heads, mlp = model.encoder.layers[0].num_heads, model.mlp_dim
    if int(heads * (1 - options.ratio)) in (0, heads) and _rounded(mlp, options) == mlp:
        raise UserError(
            f"arch.pruned.ratio={options.ratio} with round_to={options.round_to} prunes nothing: "
            f"a layer has {heads} heads and an MLP of {mlp} channels"
        )


def prune_vit(model: VisionTransformer, options: PrunedOptions) -> None:
    """Prune `model` in place: of the heads and of each MLP's channels a share of `ratio` goes, the weakest.

    Its parameters must require gradients: the tracer follows them. `round_to` is for the MLPs; heads go as wholes. A
    layer of which nothing would be left keeps its heads.
    """
    import torch_pruning

    open_attention(model)
    model.requires_grad_(True)
    attentions = [part for part in model.modules() if isinstance(part, OpenAttention)]
    projections = [layer for part in attentions for layer in (part.query, part.key, part.value)]
    first = [block.mlp[0] for block in model.encoder.layers]
    side = image_size(model)
    keeps_heads = all(int(count * (1 - options.ratio)) == 0 for count in _head_counts(attentions).values())
    for ratios, round_to, share in (
        ({} if keeps_heads else dict.fromkeys(projections, options.ratio), None, options.ratio),
        (dict.fromkeys(first, options.ratio), options.round_to, 0.0),
    ):
        if not ratios:
            continue
        others = [*projections, *first]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_pruning.pruner.BasePruner(
                model,
                torch.zeros(1, 3, side, side),
                importance=torch_pruning.importance.MagnitudeImportance(p=2),
                pruning_ratio=0.0,
                pruning_ratio_dict=ratios,
                # the patches' convolution gives the tokens their width, which every layer shares
                ignored_layers=[model.conv_proj, model.heads, *(layer for layer in others if layer not in ratios)],
                round_to=round_to,
                num_heads=_head_counts(attentions),
                prune_num_heads=bool(share),
                prune_head_dims=False,
                head_pruning_ratio=share,
            ).step()


def _head_counts(attentions: list[OpenAttention]) -> dict[nn.Module, int]:
    return {
        layer: layer.out_features // part.head_width
        for part in attentions
        for layer in (part.query, part.key, part.value)
    }


def _rounded(channels: int, options: PrunedOptions) -> int:
    left = int(channels * (1 - options.ratio))
    return left - left % (options.round_to or 1) or channels
