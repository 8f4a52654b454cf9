"""Structured pruning: whole channels go, the weakest by the L2 norm of everything that is coupled to them.

DepGraph (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023), by torch-pruning. The channels that stay
keep their weights. Channels are counted down to a multiple of `round_to`, so compare variants by measured GMACs, or ask
for `target_gmacs`: one trace tells which layers' inputs and outputs depend on each other; after that a plan is counted
by arithmetic, so that the search costs milliseconds a step instead of a pruning each.

Of a ViT: whole heads of its attention and channels within its MLPs. The tokens pass every layer by, so pruning their
width would take the same channels from all of them; heads and MLP channels are each layer's own (Michel et al., Are
Sixteen Heads Really Better than One?, NeurIPS 2019).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.models import DenseNet, VisionTransformer

from harness.networks.determinism import single_threaded
from harness.networks.inputs import Inputs
from harness.networks.shapes import copied, for_inference, output_shapes
from harness.system.errors import UserError, kind_and_first_line
from harness.techniques.arch.accounting import count_macs, count_macs_by_layer
from harness.techniques.arch.anatomy import layers_that_run, output_layer, taken_by
from harness.techniques.arch.options import PrunedOptions
from harness.techniques.arch.understood import OpenAttention, check_prunable, check_unchanged, open_attention

_STEPS = 40  # halvings of the ratio: far below one channel
_PASSES = 3  # over the layers, after the ratio: a network of few layers has coarse steps
TOLERANCE = 0.02  # of the target


@dataclass(frozen=True)
class Coupling:
    """The channels of one layer, `root`, and how many inputs and outputs of other layers go with each of them."""

    root: str
    channels: int
    inputs: dict[str, float]  # layer -> input channels lost for each channel of `root`
    outputs: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """Channels that stay, by root layer, and the GMACs that remain."""

    widths: dict[str, int]
    gmacs: float


def read_couplings(model: nn.Module, example: Any, ignored: list[nn.Module]) -> tuple[Coupling, ...]:
    """Trace `model` (its parameters must require gradients) and return its couplings, first layer first."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
    names = {part: name for name, part in model.named_modules()}
    ignored_parts = [part for top in ignored for part in top.modules()]
    found = []
    for group in graph.get_all_groups(ignored_layers=ignored_parts, root_module_types=[nn.Conv2d, nn.Linear]):
        root = group[0].dep.target.module
        channels = len(group[0].idxs)
        inputs: dict[str, float] = {}
        outputs: dict[str, float] = {}
        for dependency, indices in group:
            part = dependency.target.module
            if isinstance(part, nn.Conv2d | nn.Linear):
                side = outputs if graph.is_out_channel_pruning_fn(dependency.handler) else inputs
                side[names[part]] = len(indices) / channels
        found.append(Coupling(names[root], channels, inputs, outputs))
    order = {name: index for index, name in enumerate(names.values())}
    return tuple(sorted(found, key=lambda part: order[part.root]))


def search(
    model: nn.Module,
    couplings: tuple[Coupling, ...],
    inputs: Inputs,
    target: float,
    round_to: int | None,
) -> Plan:
    """Return the plan nearest to `target` GMACs, within 2%; raises UserError that says what can be reached.

    One ratio for all layers, by bisection. Rounding makes its steps coarse (all layers of one width change at once), so
    the rest is taken layer by layer, from the deepest: each gives up one step more where that comes nearer.
    """
    layers = _Layers(model, inputs)
    unit = round_to or 1

    def widths(ratio: float) -> dict[str, int]:
        return {part.root: _rounded_width(int(part.channels * (1 - ratio)), part.channels, unit) for part in couplings}

    least = layers.plan(couplings, widths(1.0))
    if target < least.gmacs * (1 - TOLERANCE):
        raise UserError(
            f"arch.pruned.target_gmacs={target} is out of reach: with round_to={round_to} "
            f"the minimum this network can be pruned to is {least.gmacs:.4g} GMACs"
        )
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if layers.plan(couplings, widths(middle)).gmacs > target:
            low = middle
        else:
            high = middle
    best = layers.plan(couplings, widths(low))
    for part in [*reversed(couplings)] * _PASSES:
        narrower = _rounded_width(best.widths[part.root] - 1, part.channels, unit)
        step = layers.plan(couplings, best.widths | {part.root: narrower})
        nearer = abs(step.gmacs - target) < abs(best.gmacs - target)
        # A wide layer may overshoot where a narrower one would still land: leave the step to that one.
        if nearer and step.gmacs > target * (1 - TOLERANCE):
            best = step
    if abs(best.gmacs / target - 1) > TOLERANCE:
        raise UserError(
            f"arch.pruned.target_gmacs={target} can't be met within 2% with round_to={round_to}: the nearest is "
            f"{best.gmacs:.4g}\nUse that, or a smaller round_to (null keeps every width)"
        )
    return best


def _rounded_width(width: int, channels: int, unit: int) -> int:
    # The next multiple of the unit below, but at least one unit; a layer that is to stay whole may be no multiple.
    return width if width >= channels else max(width - width % unit, min(unit, channels))


class _Layers:
    """The MACs of each layer of the unpruned network, to be scaled by what stays of its inputs and outputs."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self._sizes = {
            name: (part.in_channels, part.out_channels)
            if isinstance(part, nn.Conv2d)
            else (part.in_features, part.out_features)
            for name, part in model.named_modules()
            if isinstance(part, nn.Conv2d | nn.Linear)
        }
        by_layer = count_macs_by_layer(model, inputs)
        self._macs = {name: by_layer.get(name, 0) for name in self._sizes}

    def plan(self, couplings: tuple[Coupling, ...], widths: dict[str, int]) -> Plan:
        inputs = {name: float(size[0]) for name, size in self._sizes.items()}
        outputs = {name: float(size[1]) for name, size in self._sizes.items()}
        for part in couplings:
            lost = part.channels - widths[part.root]
            for name, each in part.inputs.items():
                inputs[name] -= lost * each
            for name, each in part.outputs.items():
                outputs[name] -= lost * each
        macs = sum(
            total * (inputs[name] / self._sizes[name][0]) * (outputs[name] / self._sizes[name][1])
            for name, total in self._macs.items()
        )
        return Plan(widths, macs / 1e9)


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
                _trace_input(model),
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


name = "pruned"
keeps_answers = True  # the channels that stay keep their weights


def check(model: nn.Module, options: PrunedOptions) -> None:
    """Raise UserError for a ratio, rounding or target that can't be had, and for a network that can't be pruned.

    Milliseconds for a ratio on a DenseNet or ViT; another network is pruned to know, and a target takes a trace of the
    model to know the minimum that can be reached (seconds).
    """
    if options.round_to is not None and options.round_to < 1:
        raise UserError(
            f"arch.pruned.round_to={options.round_to} is not a valid multiple: it must be 1 or more, or null"
        )
    if options.target_gmacs is None and not 0 < options.ratio < 1:
        raise UserError(f"arch.pruned.ratio={options.ratio} is not a share of channels: it must be above 0 and below 1")
    if len(taken_by(model).specs) > 1 or not taken_by(model).specs[0].is_floating:
        raise UserError(
            f"arch={name} follows gradients from one tensor of numbers through a network, and {type(model).__name__} "
            f"takes {taken_by(model)}"
        )
    if isinstance(model, VisionTransformer):
        check_vit(model, options)
        check_unchanged(model, _opened, f"arch={name}")
        if type(model) is not VisionTransformer:
            apply(model, options)
        return
    _check_followable(model)
    check_prunable(model, layers_that_run(model), f"arch={name}")
    if options.target_gmacs is not None:
        _check_target(model, options.target_gmacs, options.round_to)
        return
    last = output_layer(model)
    widths = [
        part.out_channels if isinstance(part, nn.Conv2d) else part.out_features
        for layer_name, part in layers_that_run(model).items()
        if last is None or layer_name != last[0]
    ]
    if all(remaining(width, options.ratio, options.round_to) == width for width in widths):
        raise UserError(
            f"arch.pruned.ratio={options.ratio} with round_to={options.round_to} prunes nothing: "
            f"every layer (of {min(widths)} to {max(widths)} channels) would round to no channel and stays whole"
        )
    if not isinstance(model, DenseNet):
        apply(model, options)


def _opened(network: nn.Module) -> list[nn.Module]:
    open_attention(network)
    return []


def apply(model: nn.Module, options: PrunedOptions) -> nn.Module:
    """Return a pruned copy of `model`; the layer that makes the logits keeps its outputs.

    A layer that rounds to no channel at all is left whole. Raises UserError where torch-pruning can't follow `model`.
    """
    changed = copied(model).requires_grad_(True)  # the tracer follows gradients through the network
    with single_threaded(), torch.enable_grad():
        if isinstance(changed, VisionTransformer):
            with _followed(changed):
                prune_vit(changed, options)
        elif options.target_gmacs is None:
            _prune(changed, options.ratio, {}, options.round_to)
        else:
            plan, couplings = _plan(changed, options.target_gmacs, options.round_to)
            # Half a channel more than is to stay, so that torch-pruning's rounding down lands on it exactly.
            ratios = {part.root: 1 - (plan.widths[part.root] + 0.5) / part.channels for part in couplings}
            _prune(changed, 0.0, {changed.get_submodule(root): max(0.0, r) for root, r in ratios.items()}, None)
    return for_inference(changed)


def remaining(channels: int, ratio: float, round_to: int | None) -> int:
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
                f"arch=pruned can't follow {where} of {type(model).__name__}, a parameter that is neither a layer's "
                "weight nor its bias: it prunes convolutional networks, and heads and MLPs of torchvision's "
                "VisionTransformer"
            )


def _prune(model: nn.Module, ratio: float, ratios: dict[nn.Module, float], round_to: int | None) -> None:
    import torch_pruning

    with _followed(model), warnings.catch_warnings():
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


@contextmanager
def _followed(model: nn.Module) -> Iterator[None]:
    """Raise UserError where torch-pruning fails inside, or leaves a network that can't be run or lost its classes."""
    before = output_shapes(model, taken_by(model))
    try:
        yield
        after = output_shapes(model, taken_by(model))
    except Exception as error:  # its tracer fails in its own ways on what it does not know
        raise UserError(
            f"arch=pruned: torch-pruning can't prune {type(model).__name__}: {kind_and_first_line(error)[:180]}"
        ) from error
    if after != before:
        raise UserError(f"arch=pruned: torch-pruning changed the logits of {type(model).__name__}: {before} to {after}")


def _check_target(model: nn.Module, target: float, round_to: int | None) -> None:
    inputs = taken_by(model)
    whole = count_macs(model, inputs) / 1e9
    if not 0 < target < whole:
        raise UserError(
            f"arch.pruned.target_gmacs={target} is not a reduction: the model has {whole:.4g} GMACs"
            + (f" at {inputs.image_side} pixels" if inputs.image_side else "")
        )
    traced = copied(model).requires_grad_(True)
    with torch.enable_grad():
        _plan(traced, target, round_to)


def _plan(model: nn.Module, target: float, round_to: int | None) -> tuple[Plan, tuple[Coupling, ...]]:
    couplings = read_couplings(model, _trace_input(model), _ignored(model))
    return search(model, couplings, taken_by(model), target, round_to), couplings


def _trace_input(model: nn.Module) -> Any:
    inputs = taken_by(model)
    (spec,) = inputs.specs
    zeros = torch.zeros(1, *spec.shape[1:])
    return {spec.name: zeros} if inputs.by_name else zeros


def _ignored(model: nn.Module) -> list[nn.Module]:
    last = output_layer(model)
    return [last[1]] if last is not None else []
