"""Fewer blocks in each stage: what a smaller growth rate is to a DenseNet, for networks of residual blocks.

A block that gives the shape it takes adds to what passes it by (He et al., Deep Residual Learning, CVPR 2016), so the
network stays whole without it; leaving such blocks out is what stochastic depth does in training (Huang et al., Deep
Networks with Stochastic Depth, ECCV 2016). A stage is a block that changes the shape, with those behind it that keep
it; from each stage the last blocks go. Every other weight is kept.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from harness.networks.shapes import weightless
from harness.system.errors import UserError
from harness.techniques.arch.anatomy import image_size
from harness.techniques.arch.options import ReducedDepthOptions

name = "reduced_depth"


def check(model: nn.Module, options: ReducedDepthOptions) -> None:
    """Raise UserError unless `model` has blocks that can go, and at least one of them does."""
    if not 0 < options.depth < 1:
        raise UserError(f"arch.reduced_depth.depth={options.depth} is no share: it must be above 0 and below 1")
    found = block_groups(model)
    if not any(removable for _, removable in found):
        raise UserError(
            f"arch={name} leaves out residual blocks that keep the shape, and {type(model).__name__} has none; "
            "its counterpart for a DenseNet is arch=reduced_growth"
        )
    if not _leaving(found, options.depth):
        most = max(blocks for blocks, _ in found)
        raise UserError(
            f"arch.reduced_depth.depth={options.depth} leaves nothing out: the stages have at most {most} blocks, "
            f"so it must be at most {(most - 1) / most:.3g}"
        )


def apply(model: nn.Module, options: ReducedDepthOptions) -> nn.Module:
    """Return a copy of `model` in which each stage keeps `options.depth` of its blocks, rounded up."""
    changed = copy.deepcopy(model)
    for block in _leaving(block_groups(changed), options.depth):
        parent, _, child = block.rpartition(".")
        delattr(changed.get_submodule(parent), child)
    return changed.eval().requires_grad_(False)


def block_groups(model: nn.Module) -> list[tuple[int, tuple[str, ...]]]:
    """Return, for each stage, how many blocks it has and the names of those that can go, first to last."""
    kept = _shape_keepers(model)
    found: list[tuple[int, tuple[str, ...]]] = []
    for parent_name, parent in model.named_modules():
        if not isinstance(parent, nn.Sequential):
            continue
        kind: type | None = None
        blocks, removable = 0, list[str]()
        for child_name, child in [*parent.named_children(), ("", None)]:
            full = f"{parent_name}.{child_name}".lstrip(".")
            if child is not None and full in kept and (kind is None or type(child) is kind):
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


def _shape_keepers(model: nn.Module) -> set[str]:
    """Return the composite modules that give one tensor of the shape they take: layers and activations are none."""
    kept: set[str] = set()
    empty = weightless(model)

    def note(name: str, inputs: tuple[object, ...], output: object) -> None:
        first = inputs[0] if inputs else None
        if isinstance(first, torch.Tensor) and isinstance(output, torch.Tensor) and first.shape == output.shape:
            kept.add(name)

    for name, part in empty.named_modules():
        if _is_residual(part):
            part.register_forward_hook(lambda _part, inputs, output, name=name: note(name, inputs, output))
    side = image_size(model)
    with torch.no_grad():
        empty(torch.empty(1, 3, side, side, device="meta"))
    return kept


def _is_residual(part: nn.Module) -> bool:
    """Return whether a module is a block of layers, and no plain sequence of them, which adds nothing to its input."""
    return not isinstance(part, nn.Sequential) and any(True for _ in part.children())
