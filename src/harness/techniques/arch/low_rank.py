"""Truncated SVD of linear layers, attention projections and 1x1 convolutions: one product becomes two thinner ones.

Denton et al., Exploiting Linear Structure Within Convolutional Networks, NIPS 2014; Jaderberg et al., Speeding up
Convolutional Neural Networks with Low Rank Expansions, BMVC 2014. The truncated SVD is the nearest matrix of its rank
in the sum of squared weights (Eckart and Young, 1936).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from harness.networks.determinism import single_threaded
from harness.networks.shapes import copied
from harness.system.errors import UserError
from harness.system.machine import usable_cores
from harness.techniques.arch.anatomy import layers_that_run
from harness.techniques.arch.options import LowRankOptions
from harness.techniques.arch.understood import (
    OpenAttention,
    check_rebuildable,
    check_unchanged,
    open_attention,
    replace,
)

name = "low_rank"
keeps_answers = True  # a truncated SVD is near the layer it replaces
DEFAULT_RATIO = 0.25


class Factored(nn.Sequential):
    """Two thin layers in place of one: inputs -> `rank` -> outputs."""

    def __init__(self, reduce: nn.Module, restore: nn.Module, dense_size: tuple[int, int], rank: int) -> None:
        super().__init__(reduce, restore)
        self.dense_size = dense_size  # (outputs, inputs) of the layer that was factored
        self.rank = rank

    @property
    def break_even(self) -> int:
        """Return the smallest rank that has no fewer weights (and multiplications) than the dense layer."""
        outputs, inputs = self.dense_size
        return -(-outputs * inputs // (outputs + inputs))  # rounded up


def check(model: nn.Module, options: LowRankOptions) -> None:
    """Raise UserError if rank, ratio or energy can't be had from the layers that `options` selects."""
    given = {key: value for key in ("rank", "ratio", "energy") if (value := getattr(options, key)) is not None}
    if len(given) > 1:
        found = " and ".join(f"arch.low_rank.{key}={value}" for key, value in given.items())
        raise UserError(f"{found} contradict each other: set one of rank, ratio, energy and leave the others null")
    if options.rank is not None and options.rank < 1:
        raise UserError(f"arch.low_rank.rank={options.rank} is not a rank: it must be 1 or more")
    for key in ("ratio", "energy"):
        if key in given and not 0 < given[key] <= 1:
            raise UserError(f"arch.low_rank.{key}={given[key]} is not a share: it must be above 0 and at most 1")
    if not (options.classifier or options.linear or options.attention or options.conv1x1):
        raise UserError(
            "arch=low_rank has nothing to factor: set arch.low_rank.classifier, .linear, .attention or .conv1x1 to true"
        )
    opened = _opened(copied(model, own_weights=False), options)
    chosen = targets(opened, options)
    if not chosen:
        raise UserError("arch=low_rank has nothing to factor: the model has none of the layers that it selects")
    check_rebuildable(opened, chosen, f"arch={name}")
    for layer_name, layer in chosen.items():
        limit = min(layer.weight.flatten(1).shape)
        if options.rank is not None and options.rank > limit:
            raise UserError(
                f"arch.low_rank.rank={options.rank} is more than {layer_name} has: its limit is {limit}\n"
                "Use arch.low_rank.ratio, which fits each layer, or leave that kind of layer out "
                "(arch.low_rank.conv1x1=false)"
            )
    try:
        check_unchanged(model, lambda whole: _unchanged(whole, options), f"arch={name}")
    except UserError as error:
        raise UserError(_of_pytorchs_encoder(opened, chosen) or str(error)) from error


def apply(model: nn.Module, options: LowRankOptions) -> nn.Module:
    """Return a copy of `model` with the selected layers factored; at full rank it computes the same function.

    The rank of each layer is `rank`, or `ratio` of min(in, out) (at least 1; the default, a quarter), or the smallest
    that keeps `energy` of the squared singular values. A rank that saves nothing is done all the same: see `notes`.
    """
    changed = _opened(copied(model), options)
    layers = targets(changed, options)
    # a decomposition a thread, each computed on that one alone: of a ViT there are 72, half a second each
    with single_threaded(), ThreadPoolExecutor(usable_cores()) as pool:
        factored = list(pool.map(lambda layer: _factor(layer, options), layers.values()))
    for dense, thin in zip(layers.values(), factored, strict=True):
        replace(changed, dense, thin)
    return changed


def targets(model: nn.Module, options: LowRankOptions) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers to factor by name, in the order they run.

    Linear layers (the last one that runs is the classifier) and 1x1 convolutions that are not grouped: those are
    products of small matrices already. Attention is factored where it is open (`attention.py`).
    """
    running = layers_that_run(model)
    linears = [layer_name for layer_name, layer in running.items() if isinstance(layer, nn.Linear)]
    attentions = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, OpenAttention))
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for layer_name, layer in running.items():
        if isinstance(layer, nn.Linear):
            if layer_name == linears[-1]:
                is_chosen = options.classifier
            else:
                is_chosen = options.attention if layer_name.startswith(attentions) else options.linear
        else:
            is_chosen = options.conv1x1 and _is_pointwise(layer)
        if is_chosen:
            found[layer_name] = layer
    return found


def notes(model: nn.Module) -> tuple[str, ...]:
    """Return a remark for every factored layer whose rank saves neither weights nor work."""
    return tuple(
        f"low_rank: rank {part.rank} of {layer_name} saves nothing (break-even {part.break_even})"
        for layer_name, part in model.named_modules()
        if isinstance(part, Factored) and part.rank >= part.break_even
    )


def _opened(model: nn.Module, options: LowRankOptions) -> nn.Module:
    """Open the attention of `model` in place, if it is to be factored; return `model`."""
    if options.attention:
        open_attention(model)
    return model


def _of_pytorchs_encoder(model: nn.Module, chosen: Mapping[str, nn.Module]) -> str:
    """Return why a layer of `chosen` can't be factored if PyTorch's encoder layer holds it, which mostly reads it."""
    for layer_name in chosen:
        holder = model.get_submodule(layer_name.rpartition(".")[0])
        if isinstance(holder, nn.TransformerEncoderLayer):
            return (
                f"arch=low_rank can't factor {layer_name}: nn.TransformerEncoderLayer reads the weight of this layer "
                "itself in inference, so two thinner layers can't take its place.\n"
                "Use arch.low_rank.linear=false to factor the network's other layers, or build the encoder layer "
                "of nn.Linear, as examples/text_encoder.py does."
            )
    return ""


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.groups == 1


def _matrix(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    return layer.weight.detach().flatten(1)  # [out, in]


def _factor(layer: nn.Linear | nn.Conv2d, options: LowRankOptions) -> Factored:
    # In double precision, so that the rounding to float32 hides how a LAPACK build orders its sums.
    left, singular, right = torch.linalg.svd(_matrix(layer).double(), full_matrices=False)
    rank = _rank(singular, options)
    # Signs are free in an SVD; fix them, so that two LAPACK builds agree.
    rows = torch.arange(len(singular))
    sign = torch.sign(right[rows, right.abs().argmax(dim=1)])
    # Half of each singular value to either side keeps both factors in a range that fp16 holds.
    root = singular.sqrt() * sign
    first = (root[:rank, None] * right[:rank]).float()
    second = (left[:, :rank] * root[:rank]).float()
    return _in_two(layer, first, second)


def _unchanged(network: nn.Module, options: LowRankOptions) -> list[nn.Module]:
    """Factor the targets of `network` in place, the weight into itself and an identity; return what was there."""
    chosen = list(targets(_opened(network, options), options).values())
    for layer in chosen:
        weight = _matrix(layer)
        outputs, inputs = weight.shape
        pair = (torch.eye(inputs), weight) if inputs <= outputs else (weight, torch.eye(outputs))
        replace(network, layer, _in_two(layer, *pair))
    return list(chosen)


def _in_two(layer: nn.Linear | nn.Conv2d, first: torch.Tensor, second: torch.Tensor) -> Factored:
    """Return two layers in place of `layer`, whose weights are [rank, in] and [out, rank]."""
    outputs, inputs = _matrix(layer).shape
    rank = first.shape[0]
    if isinstance(layer, nn.Linear):
        reduce: nn.Module = nn.utils.skip_init(nn.Linear, inputs, rank, bias=False)
        restore: nn.Module = nn.utils.skip_init(nn.Linear, rank, outputs, bias=layer.bias is not None)
    else:
        # Stride and padding go first: the second convolution then has less to do, and the result is the same.
        reduce = nn.utils.skip_init(nn.Conv2d, inputs, rank, 1, stride=layer.stride, padding=layer.padding, bias=False)
        restore = nn.utils.skip_init(nn.Conv2d, rank, outputs, 1, bias=layer.bias is not None)
        first, second = first[:, :, None, None], second[:, :, None, None]
    reduce.weight = nn.Parameter(first.contiguous())
    restore.weight = nn.Parameter(second.contiguous())
    if layer.bias is not None:
        restore.bias = nn.Parameter(layer.bias.detach().clone())
    return Factored(reduce, restore, (outputs, inputs), rank).eval().requires_grad_(False)


def _rank(singular: torch.Tensor, options: LowRankOptions) -> int:
    limit = len(singular)
    if options.rank is not None:
        return options.rank
    if options.energy is not None:
        energy = singular.square().cumsum(0)
        enough = energy >= options.energy * energy[-1]
        return int(enough.to(torch.int8).argmax()) + 1
    ratio = DEFAULT_RATIO if options.ratio is None else options.ratio
    return max(1, round(ratio * limit))
