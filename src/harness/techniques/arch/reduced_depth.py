"""Fewer blocks in each stage: what a smaller growth rate is to a DenseNet, for networks of residual blocks.

A block that gives the shape it takes adds to what passes it by (He et al., Deep Residual Learning, CVPR 2016), so the
network stays whole without it; leaving such blocks out is what stochastic depth does in training (Huang et al., Deep
Networks with Stochastic Depth, ECCV 2016). A stage is a block that changes the shape, with those behind it that keep
it; from each stage the last blocks go. Every other weight is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from harness.networks.shapes import copied, for_inference, random_features
from harness.system.errors import UserError
from harness.system.library_internals import child_slots
from harness.techniques.arch.anatomy import taken_by
from harness.techniques.arch.options import ReducedDepthOptions
from harness.techniques.arch.understood import check_runs, close

name = "reduced_depth"
keeps_answers = True  # every block that stays is the trained one


def check(model: nn.Module, options: ReducedDepthOptions) -> None:
    """Raise UserError unless `model` has blocks that can go, and at least one of them does."""
    if not 0 < options.depth < 1:
        raise UserError(f"arch.reduced_depth.depth={options.depth} is not a share: it must be above 0 and below 1")
    found = block_groups(model)
    if not any(removable for _, removable in found):
        raise UserError(
            f"arch={name} leaves out residual blocks that keep the shape, and {type(model).__name__} has none; "
            "its counterpart for a DenseNet is arch=reduced_growth"
        )
    if not _leaving(found, options.depth):
        most = max(blocks for blocks, removable in found if removable)
        if most == 1:
            raise UserError(f"arch={name}: each stage of {type(model).__name__} has one block, which stays")
        raise UserError(
            f"arch.reduced_depth.depth={options.depth} leaves nothing out: the stages have at most {most} blocks, "
            f"so it must be at most {(most - 1) / most:.3g}"
        )
    check_runs(model, lambda: apply(model, options), f"arch={name}: {type(model).__name__} can't be run without blocks")


def apply(model: nn.Module, options: ReducedDepthOptions) -> nn.Module:
    """Return a copy of `model` in which each stage keeps `options.depth` of its blocks, rounded up."""
    changed = copied(model)
    for block in _leaving(block_groups(changed), options.depth):
        parent, _, child = block.rpartition(".")
        delattr(changed.get_submodule(parent), child)
    return for_inference(changed)


def block_groups(model: nn.Module) -> list[tuple[int, tuple[str, ...]]]:
    """Return, for each stage, how many blocks it has and the names of those that can go, first to last."""
    passed_by = _passed_by(model)
    found: list[tuple[int, tuple[str, ...]]] = []
    for parent_name, parent in model.named_modules():
        if not _is_sequence(parent):
            continue
        kind: type | None = None
        blocks, removable = 0, list[str]()
        for child_name, child in [*child_slots(parent), ("", None)]:
            full = f"{parent_name}.{child_name}".lstrip(".")
            if child is not None and full in passed_by and (kind is None or type(child) is kind):
                blocks, removable = blocks + 1, [*removable, full]
            else:  # another shape, or no block at all: a stage ends here, and perhaps begins
                if removable:
                    found.append((blocks, tuple(removable)))
                blocks, removable = 1, []
            kind = type(child)
    return found


def _leaving(found: list[tuple[int, tuple[str, ...]]], depth: float) -> list[str]:
    out: list[str] = []
    for blocks, removable in found:
        goes = min(blocks - max(1, math.ceil(blocks * depth)), len(removable))
        out += removable[len(removable) - goes :]
    return out


def _passed_by(model: nn.Module) -> set[str]:
    """Return the names of the composite modules of plain sequences that give their input, plus what they compute."""
    taken = taken_by(model)
    inputs: dict[str, tuple[Any, ...]] = {}

    def note(names: Sequence[str], given: tuple[Any, ...], output: object) -> None:
        first = given[0] if given else None
        if isinstance(first, torch.Tensor) and isinstance(output, torch.Tensor) and first.shape == output.shape:
            inputs.update(dict.fromkeys(names, given))

    network = copied(model, own_weights=False)
    for part, names in _blocks(network):
        part.register_forward_hook(lambda _part, given, output, names=names: note(names, given, output))
    with torch.no_grad():
        taken.call(network, taken.tensors(1))
        return {name for name, given in inputs.items() if _adds_to_its_input(model.get_submodule(name), given)}


def _blocks(network: nn.Module) -> Iterator[tuple[nn.Module, list[str]]]:
    """Give the modules of layers that stand in plain sequences, each with all of its names."""
    names: dict[nn.Module, list[str]] = {}
    for parent_name, parent in network.named_modules(remove_duplicate=False):
        if _is_sequence(parent):
            for child_name, child in child_slots(parent):
                if child is not None and not isinstance(child, nn.Sequential) and any(True for _ in child.children()):
                    names.setdefault(child, []).append(f"{parent_name}.{child_name}".lstrip("."))
    yield from names.items()


def _is_sequence(part: nn.Module) -> bool:
    # a subclass with a forward of its own may do anything with its blocks
    return isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward


def _adds_to_its_input(block: nn.Module, given: tuple[Any, ...]) -> bool:
    """Return whether something passes `block` by: with all of its parameters 0, it gives its input (or its activation).

    A block of a plain chain gives a constant then. `given` is what it is called with; the first is the features.
    """
    silent = copied(block)
    for parameter in silent.parameters():
        parameter.zero_()
    activations = [part for part in silent.modules() if not any(True for _ in part.children())]
    features = random_features(given[0].shape)
    try:
        out = silent(features, *given[1:])
    except Exception:  # unknown, so it stays
        return False
    if not torch.isfinite(out).all():
        return False
    return close(features, out) or any(close(act(features), out) for act in activations if _is_activation(act))


def _is_activation(part: nn.Module) -> bool:
    return type(part).__module__ == nn.ReLU.__module__
