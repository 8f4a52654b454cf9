"""Looking at a network by running a copy of it: on tensors without data where it can be, else with its own weights.

A network may be anybody's code, so nothing is written onto it and it is never run itself: running may leave traces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from harness.networks.inputs import Inputs, TensorSpec, carry_inputs, inputs_of, named_outputs, one_tensor
from harness.system.errors import UserError, kind_and_first_line

T = TypeVar("T")


def output_shapes(model: nn.Module, inputs: Inputs) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each output for one sample, without the batch."""
    return tuple(shape[1:] for shape in _outputs(model, inputs).values())


def output_names(model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """Return what the outputs are called, in their order."""
    return tuple(_outputs(model, inputs))


def _outputs(model: nn.Module, inputs: Inputs) -> dict[str, tuple[int, ...]]:
    def shapes(network: nn.Module, values: Sequence[torch.Tensor]) -> dict[str, tuple[int, ...]]:
        found = named_outputs(inputs.call(network, values))
        return {name: tuple(value.shape) for name, value in found.items()}

    return on_a_copy(model, inputs, shapes)


def on_a_copy(model: nn.Module, inputs: Inputs, run: Callable[[nn.Module, Sequence[torch.Tensor]], T]) -> T:
    """Return what `run` gives for a copy of `model` and one sample of `inputs`; it may put hooks onto that copy.

    First without data, which takes milliseconds whatever the network's size. Many networks can't be run so (a tensor
    made in `forward` or kept as a plain attribute, a branch on values): these are run with their weights on the CPU, in
    another copy, so `run` is called once more. What it raises there is raised.
    """
    with torch.no_grad():
        try:
            return run(weightless(model), [_without_data(spec) for spec in inputs.specs])
        except Exception:  # whatever somebody's code says of a tensor without data
            return run(copied(model, own_weights=False), inputs.tensors(1))


def _without_data(spec: TensorSpec) -> torch.Tensor:
    return torch.empty(1, *spec.shape[1:], dtype=getattr(torch, spec.dtype), device="meta")


def random_features(shape: Sequence[int]) -> torch.Tensor:
    """Return float32 of `shape`, the batch first, from a standard normal, always the same."""
    return one_tensor("features", shape[1:]).tensors(shape[0])[0]


def weightless(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device: shapes without data; the weights are never copied."""
    memo: dict[int, object] = {id(part): torch.empty_like(part, device="meta") for part in _computed(model)}
    memo |= {id(part): torch.empty_like(part, device="meta") for part in model.buffers()}
    memo |= {id(part): nn.Parameter(torch.empty_like(part, device="meta")) for part in model.parameters()}
    return _copy(model, memo)


def copied(model: nn.Module, own_weights: bool = True) -> nn.Module:
    """Return a copy of `model`; without `own_weights` it shares its parameters (not its buffers) with `model`.

    Raises UserError for a network that can't be copied.
    """
    memo: dict[int, object] = {id(part): part.detach().clone() for part in _computed(model)}
    if not own_weights:
        memo |= {id(part): part for part in model.parameters()}
    try:
        return _copy(model, memo)
    except Exception as error:  # a lock, an open file, a generator: whatever it holds that has no copy
        raise UserError(
            f"{type(model).__name__} can't be copied (copy.deepcopy), and techniques change a copy: "
            f"{kind_and_first_line(error)[:180]}"
        ) from error


def for_inference(network: nn.Module) -> nn.Module:
    """Put `network` into eval mode, without gradients, and return it; a `train()` of its own may return nothing."""
    network.eval()
    network.requires_grad_(False)
    return network


def _copy(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    inputs = inputs_of(model)
    memo[id(inputs)] = inputs  # what makes the values may be anything, and is not the copy's own
    changed = copy.deepcopy(model, memo)
    carry_inputs(changed, inputs)  # a class may copy itself in its own way
    return changed


def _computed(model: nn.Module) -> list[torch.Tensor]:
    """Return tensors kept as plain attributes that were computed from others: deepcopy refuses these (weight norm)."""
    held = (value for part in model.modules() for value in vars(part).values())
    return [value for value in held if isinstance(value, torch.Tensor) and not value.is_leaf]
