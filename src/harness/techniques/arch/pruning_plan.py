"""How many channels of each layer to keep so that a network comes out at a target of GMACs.

One trace tells which layers' inputs and outputs hang together; after that a plan is counted by arithmetic, so that the
search costs milliseconds a step instead of a pruning each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from harness.system.errors import UserError
from harness.techniques.arch.macs import count_macs_by_layer

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

    kept: dict[str, int]
    gmacs: float


def read_couplings(model: nn.Module, example: torch.Tensor, ignored: list[nn.Module]) -> tuple[Coupling, ...]:
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
    sample_shape: tuple[int, ...],
    target: float,
    round_to: int | None,
) -> Plan:
    """Return the plan nearest to `target` GMACs, within 2%; raises UserError that says what can be reached.

    One ratio for all layers, by bisection. Rounding makes its steps coarse (all layers of one width change at once), so
    the rest is taken layer by layer, from the deepest: each gives up one step more where that comes nearer.
    """
    layers = _Layers(model, sample_shape)
    unit = round_to or 1

    def widths(ratio: float) -> dict[str, int]:
        return {part.root: _kept(int(part.channels * (1 - ratio)), part.channels, unit) for part in couplings}

    least = layers.plan(couplings, widths(1.0))
    if target < least.gmacs * (1 - TOLERANCE):
        raise UserError(
            f"arch.pruned.target_gmacs={target} is out of reach: with round_to={round_to} "
            f"the least this network can be pruned to is {least.gmacs:.4g} GMACs"
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
        narrower = _kept(best.kept[part.root] - 1, part.channels, unit)
        step = layers.plan(couplings, best.kept | {part.root: narrower})
        nearer = abs(step.gmacs - target) < abs(best.gmacs - target)
        # A wide layer may overshoot where a narrower one would still land: leave the step to that one.
        if nearer and step.gmacs > target * (1 - TOLERANCE):
            best = step
    if abs(best.gmacs / target - 1) > TOLERANCE:
        raise UserError(
            f"arch.pruned.target_gmacs={target} can't be met within 2% with round_to={round_to}: the nearest is "
            f"{best.gmacs:.4g}\nTake that, or a smaller round_to (null keeps every width)"
        )
    return best


def _kept(wanted: int, channels: int, unit: int) -> int:
    # The next multiple of the unit below, but at least one unit; a layer that is to stay whole may be no multiple.
    return wanted if wanted >= channels else max(wanted - wanted % unit, min(unit, channels))


class _Layers:
    """The MACs of each layer of the unpruned network, to be scaled by what stays of its inputs and outputs."""

    def __init__(self, model: nn.Module, sample_shape: tuple[int, ...]) -> None:
        self._sizes = {
            name: (part.in_channels, part.out_channels)
            if isinstance(part, nn.Conv2d)
            else (part.in_features, part.out_features)
            for name, part in model.named_modules()
            if isinstance(part, nn.Conv2d | nn.Linear)
        }
        by_layer = count_macs_by_layer(model, sample_shape)
        self._macs = {name: by_layer.get(name, 0) for name in self._sizes}

    def plan(self, couplings: tuple[Coupling, ...], kept: dict[str, int]) -> Plan:
        inputs = {name: float(size[0]) for name, size in self._sizes.items()}
        outputs = {name: float(size[1]) for name, size in self._sizes.items()}
        for part in couplings:
            lost = part.channels - kept[part.root]
            for name, each in part.inputs.items():
                inputs[name] -= lost * each
            for name, each in part.outputs.items():
                outputs[name] -= lost * each
        macs = sum(
            total * (inputs[name] / self._sizes[name][0]) * (outputs[name] / self._sizes[name][1])
            for name, total in self._macs.items()
        )
        return Plan(kept, macs / 1e9)
