"""A network alone, before any technique or engine has touched it: is it one that can be compared with anything?

Whatever is wrong with it would else be found in an engine's answers, and be blamed on the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from harness.config import ModelConfig
from harness.networks.inputs import Inputs, inputs_of, named_outputs
from harness.networks.own_code import reported
from harness.networks.shapes import copied
from harness.system.errors import UserError
from harness.system.library_internals import dispatch_mode, is_compiled

_BATCH = 2  # one image alone would hide a batch of one that is written into a network
_NOISE = 1e-3  # of the range of the answers: far above what the order of sums changes
_REDUCED = (torch.float16, torch.bfloat16)


def materialise(network: nn.Module, cfg: ModelConfig) -> None:
    """Let lazy layers of `network` make their weights, by running it once; does nothing where there are none."""
    lazy = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)
    if any(isinstance(part, lazy) for part in (*network.parameters(), *network.buffers())):
        with reported(_failing(network, cfg)), torch.no_grad():
            _run(network, network)


def check_form(network: nn.Module, cfg: ModelConfig) -> None:
    """Raise UserError unless `network` is plain fp32 PyTorch on the CPU and gives what can be compared; runs a copy.

    Of images that is one logit a class; of inputs of its author's own, tensors of numbers with the batch first.
    """
    _check_plain(network, cfg)
    _check_tensors(network, cfg)
    with reported(_failing(network, cfg)), torch.no_grad(), _Precisions() as met:
        answer = _run(copied(network, own_weights=False), network)
    inputs = _taken(network)
    if inputs.make is not None:
        _check_outputs(answer, inputs, cfg)
    elif not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (_BATCH, cfg.num_classes):
        raise UserError(
            f"model={cfg.name} gives {described(answer)}, not [B, {cfg.num_classes}]: "
            "one logit for each of model.num_classes"
        )
    other = next((value.dtype for value in named_outputs(answer).values() if value.dtype != torch.float32), "")
    if other or met.reduced:
        found = met.reduced or str(other)
        raise UserError(
            f"model={cfg.name} computes in {found}, and the baseline is fp32 by definition: "
            "let it compute in float32 and choose hw=fp16"
        )


def check_answers(network: nn.Module, cfg: ModelConfig) -> None:
    """Raise UserError unless `network`, with its weights, answers with finite numbers, and the same images alike."""
    with reported(_failing(network, cfg)), torch.no_grad():
        runner = copied(network, own_weights=False)
        first, second = (
            {name: value.clone() for name, value in named_outputs(_run(runner, network)).items()} for _ in range(2)
        )
    for name, value in first.items():
        _check_values(value, second[name], network, cfg)


def _check_values(first: torch.Tensor, second: torch.Tensor, network: nn.Module, cfg: ModelConfig) -> None:
    if not torch.isfinite(first).all():
        raise UserError(
            f"model={cfg.name} answers {'NaN' if first.isnan().any() else 'infinity'} in plain PyTorch on the CPU"
            f"{_where_not_finite(network, cfg)}"
        )
    scale = float(first.abs().max())
    difference = float((first - second).abs().max())
    if difference > _NOISE * scale:
        what = "images" if _taken(network).make is None else "inputs"
        raise UserError(
            f"model={cfg.name} answers the same {what} differently each time, "
            f"by {difference / scale:.2g} of its range: "
            "no engine can be compared with that\nDoes it draw random numbers in evaluation, as "
            "functional.dropout(x) does without training=self.training, or count its calls?"
        )


def _check_outputs(answer: Any, inputs: Inputs, cfg: ModelConfig) -> None:
    """Raise UserError unless a network on inputs of its author's own gives what any engine can be compared with."""
    outputs = named_outputs(answer)
    if not outputs:
        raise UserError(f"model={cfg.name} gives {described(answer)}, not a tensor, or a tuple or dict of tensors")
    for name, value in outputs.items():
        if not value.dim() or value.shape[0] != _BATCH or not value.numel():
            raise UserError(
                f"model={cfg.name} gives {name!r} of shape {list(value.shape)} for inputs({_BATCH}): "
                "its first dimension must be the batch"
            )
        if not value.is_floating_point():
            raise UserError(
                f"model={cfg.name} gives {name!r} in {value.dtype}: only floating-point numbers can be compared within "
                "a tolerance; return what it is chosen from"
            )
        if name in inputs.names:
            raise UserError(
                f"model={cfg.name} gives an output called as its input {name!r}: name one of them otherwise"
            )


class _Precisions(dispatch_mode()):  # type: ignore[misc]
    """Notes whether anything inside computes in less than fp32 (`reduced`: in what, "" if nothing does)."""

    def __init__(self) -> None:
        super().__init__()
        self.reduced = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype in _REDUCED and not self.reduced:
            self.reduced = str(out.dtype)
        return out


def _check_plain(network: nn.Module, cfg: ModelConfig) -> None:
    """Raise UserError for a network that is already compiled, scripted or spread over devices: eager would not be."""
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(
            f"model={cfg.name} is TorchScript, which can be neither changed nor exported: return the nn.Module"
        )
    for name, part in network.named_modules():
        where = f"model={cfg.name}" + (f": its part {name}" if name else "")
        if is_compiled(part):
            raise UserError(
                f"{where} is compiled by torch.compile already: return it as it was, and choose hw=compiled"
            )
        if isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise UserError(f"{where} is wrapped in {type(part).__name__}: return what is inside, its .module")


def _check_tensors(network: nn.Module, cfg: ModelConfig) -> None:
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.device.type != "cpu":
            raise UserError(
                f"model={cfg.name} has its {name} on {tensor.device}: return the network on the CPU, engines move it"
            )
    for name, tensor in network.named_parameters():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(
                f"model={cfg.name} holds {name} in {tensor.dtype}, and the baseline is fp32 by definition: "
                "return it with .float(), and choose hw=fp16 for half precision"
            )


def _taken(network: nn.Module) -> Inputs:
    found = inputs_of(network)
    assert found is not None, "carried since the network was made"
    return found


def _run(runner: nn.Module, network: nn.Module) -> Any:
    """Return what `runner`, `network` or a copy of it, gives of two samples."""
    inputs = _taken(network)
    return inputs.call(runner, inputs.tensors(_BATCH))


def _failing(network: nn.Module, cfg: ModelConfig) -> str:
    side, inputs = cfg.image_size, _taken(network)
    if inputs.make is not None:
        return f"model={cfg.name} can't be run on its inputs({_BATCH}), {inputs}"
    return f"model={cfg.name} can't be run on images [{_BATCH}, 3, {side}, {side}] (model.image_size={side})"


def _where_not_finite(network: nn.Module, cfg: ModelConfig) -> str:
    source = f" (model.weights={cfg.weights})" if cfg.weights is not None else ""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f": its {name} holds values that are not finite{source}"
    return source


def described(answer: Any) -> str:
    """Return what a network gave in a few words: a tensor's shape, else what it is and what it holds."""
    if isinstance(answer, torch.Tensor):
        return str(["B", *answer.shape[1:]]).replace("'", "")
    kind = type(answer).__name__
    held = list(_held(answer))
    return f"a {kind} ({', '.join(held)})" if held else f"a {kind}"


def _held(answer: Any) -> Iterator[str]:
    if isinstance(answer, dict):
        yield from (f"{key} {described(value)}" for key, value in answer.items())
    elif is_dataclass(answer):
        yield from (f"{part.name} {described(getattr(answer, part.name))}" for part in fields(answer))
    elif isinstance(answer, list | tuple):
        names = getattr(answer, "_fields", None)
        shown = [described(value) for value in answer]
        yield from shown if names is None else (f"{name} {text}" for name, text in zip(names, shown, strict=True))
