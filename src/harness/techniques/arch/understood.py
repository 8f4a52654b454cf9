"""What a technique may rebuild: layers that compute what PyTorch's plain ones do, reached by their names.

A subclass may pad, standardise its weights or add to its answer (timm's `Conv2dSame`, `ScaledStdConv2d`), hooks may
compute a weight anew before every call (weight norm): a plain layer in its place would compute something else, and the
loss in accuracy would be called the technique's. So each layer is looked at, and the network with the same layers
rebuilt unchanged must answer as it did.

Self-attention has its projections as layers of their own here, so that they can be pruned and factored:
`nn.MultiheadAttention` holds the projections of queries, keys and values as one bare parameter and reads the output
projection's weight past its layer: nothing can be put in their place. This computes the same from plain layers, with
the same weights (Vaswani et al., Attention Is All You Need, NIPS 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torchvision.models.vision_transformer import EncoderBlock

from harness.networks.inputs import named_outputs
from harness.networks.shapes import copied, on_a_copy, output_shapes, random_features
from harness.system.errors import UserError, kind_and_first_line
from harness.system.library_internals import child_slots, has_hooks, parameter_slots, registered_names
from harness.techniques.arch.anatomy import taken_by

_CLOSE = 1e-4  # of the range: above what another order of sums changes, far below what another function does
_DRAWN = 0.1  # deviation of what stands in for zeros
_RUNS = ("forward", "_conv_forward", "__call__", "__getattr__")
_SCALES = (1.0, 100.0)  # of the inputs that a layer of another class is tried on


def check_rebuildable(model: nn.Module, layers: Mapping[str, nn.Module], requested: str) -> None:
    """Raise UserError, beginning with `requested`, for the first of `layers` that a plain layer can't stand in for."""
    owners = _owners(model)
    shapes = _input_shapes(model, [name for name, layer in layers.items() if _runs_otherwise(layer)])
    for name, layer in layers.items():
        why = _not_plain(layer, shapes.get(name)) or _shared(layer, owners)
        if why:
            raise UserError(f"{requested} rebuilds plain layers only, and {name} {why}")


def check_unchanged(model: nn.Module, rebuild: Callable[[nn.Module], list[nn.Module]], requested: str) -> None:
    """Raise UserError unless `model` answers as before once `rebuild` has replaced layers, in a copy, by equal ones.

    `rebuild` changes the copy that it gets and returns the layers that it took out, which must not be called any more.
    """
    telling = telling_copy(model)
    changed = copied(telling, own_weights=False)
    removed = rebuild(changed)
    called: list[nn.Module] = []
    for layer in removed:
        layer.register_forward_pre_hook(lambda layer, _inputs: called.append(layer))
    with torch.no_grad():
        before = answers(telling, model)
        try:
            after = answers(changed, model)
        except Exception as error:  # its own code looks into the layers that it had
            raise UserError(
                f"{requested}: {type(model).__name__} does more with its layers than call them: "
                f"{kind_and_first_line(error)[:180]}"
            ) from error
    if called:
        raise UserError(
            f"{requested}: {type(model).__name__} calls a {type(called[0]).__name__} "
            "by another reference than its name in the network"
        )
    if not all(close(*pair) for pair in zip(before, after, strict=True)):
        worst = max(difference(*pair) for pair in zip(before, after, strict=True))
        raise UserError(
            f"{requested} can't rebuild {type(model).__name__}: with equal layers in place of its own it answers "
            f"otherwise, by {worst:.2g} of its range"
        )


def answers(network: nn.Module, model: nn.Module) -> tuple[torch.Tensor, ...]:
    """Return all outputs of `network` for two samples of what `model` takes, which it is a changed copy of."""
    inputs = taken_by(model)
    return tuple(named_outputs(inputs.call(network, inputs.tensors(2))).values())


def check_runs(model: nn.Module, change: Callable[[], nn.Module], otherwise: str) -> None:
    """Raise UserError where the network's own code does not run after `change()`, which returns the changed copy.

    The message is the technique and what the network does otherwise, `otherwise`, then PyTorch's reason.
    """
    try:
        output_shapes(change(), taken_by(model))
    except Exception as error:
        raise UserError(f"{otherwise}: {kind_and_first_line(error)[:180]}") from error


def check_prunable(model: nn.Module, layers: Mapping[str, nn.Module], requested: str) -> None:
    """Raise UserError for the first of `layers` that is more than what its channels contribute, one by one.

    A layer of another class stays what it is when it is pruned; one that standardises its weights over all channels
    would compute something else of those that stay. A shared parameter can't be pruned for one of its layers alone.
    """
    owners = _owners(model)
    shapes = _input_shapes(model, [name for name, layer in layers.items() if _runs_otherwise(layer)])
    for name, layer in layers.items():
        why = _shared(layer, owners)
        if not why and _runs_otherwise(layer) and not _has_separate_channels(layer, shapes.get(name)):
            why = f"is a {type(layer).__name__} of {type(layer).__module__}, whose channels depend on each other"
        if why:
            raise UserError(f"{requested} takes channels out of layers, and {name} {why}")


def replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is registered in `network`: a layer may be there under several names."""
    for parent in list(network.modules()):
        for name, child in child_slots(parent):
            if child is old:
                setattr(parent, name, new)


def telling_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in which parameters that are all 0 are not: they mute what lies before them.

    The last layer of an untrained ViT is such a one, and the last norm of each block of an untrained ResNet of timm's.
    """
    telling = copied(model, own_weights=False)
    generator = torch.Generator().manual_seed(0)
    for part in telling.modules():
        for name, parameter in parameter_slots(part):
            if parameter is not None and parameter.is_floating_point() and not parameter.any():
                drawn = _DRAWN * torch.randn(parameter.shape, generator=generator)
                setattr(part, name, nn.Parameter(drawn, requires_grad=False))
    return telling


def close(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Return whether two answers are the same but for the order of sums."""
    return before.shape == after.shape and difference(before, after) <= _CLOSE


def difference(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return how far two answers of one shape are apart at most, as a share of the range of the first."""
    return float((before - after).abs().max() / before.abs().max().clamp(min=1e-30))


def _not_plain(layer: nn.Module, shape: tuple[int, ...] | None) -> str:
    """Return what makes a layer more than weight, bias and a plain forward; "" for a plain one."""
    kind = _kind(layer)
    named = f"is a {type(layer).__name__}"
    if kind is None:
        return named
    if parametrize.is_parametrized(layer):
        return "computes its weight from other parameters (torch.nn.utils.parametrize)"
    if has_hooks(layer):
        return "has a hook, which may compute its weight or change its answer (weight norm, spectral norm)"
    if "forward" in vars(layer):
        return "has a forward of its own"
    if dict(parameter_slots(layer)).get("weight") is None:
        return "has a weight that is not a parameter of its own"
    more = [name for name in registered_names(layer) if name not in ("weight", "bias")]
    if more:
        return f"{named} that holds more than weight and bias: {more[0]}"
    if _runs_otherwise(layer) and not _computes_the_same(layer, shape):
        return f"{named} of {type(layer).__module__}, which does not compute what torch.nn.{kind.__name__} does"
    return ""


def _kind(layer: nn.Module) -> type[nn.Module] | None:
    return next((kind for kind in (nn.Conv2d, nn.Linear) if isinstance(layer, kind)), None)


def _runs_otherwise(layer: nn.Module) -> bool:
    kind = _kind(layer)
    return kind is not None and any(getattr(type(layer), name, None) is not getattr(kind, name, None) for name in _RUNS)


def _computes_the_same(layer: nn.Module, shape: tuple[int, ...] | None) -> bool:
    """Return whether a layer of another class gives, on inputs of its `shape`, what the plain one gives."""
    if shape is None:
        return False
    plain = plain_copy(layer)
    images = random_features(shape)
    with torch.no_grad():
        return all(close(layer(images * scale), plain(images * scale)) for scale in _SCALES)


def _has_separate_channels(layer: nn.Module, shape: tuple[int, ...] | None) -> bool:
    """Return whether a layer with half its channels gives what the whole one gives of inputs whose other half is 0."""
    if shape is None or not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        return _computes_the_same(layer, shape)
    inputs, outputs = -(-layer.in_channels // 2), -(-layer.out_channels // 2)
    half = copied(layer)
    assert isinstance(half, nn.Conv2d)
    half.in_channels, half.out_channels = inputs, outputs
    half.weight = nn.Parameter(layer.weight.detach()[:outputs, :inputs].clone())
    half.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach()[:outputs].clone())
    images = random_features(shape)
    images[:, inputs:] = 0
    with torch.no_grad():
        return close(layer(images)[:, :outputs], half(images[:, :inputs]))


def plain_copy(layer: nn.Module) -> nn.Module:
    """Return a plain layer with the weight and the bias of `layer`, the same tensors."""
    plain: nn.Module
    if isinstance(layer, nn.Conv2d):
        plain = nn.utils.skip_init(
            nn.Conv2d,
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        )
    elif isinstance(layer, nn.Linear):
        plain = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features, bias=layer.bias is not None)
    else:
        raise TypeError(f"{type(layer).__name__} is neither nn.Conv2d nor nn.Linear")
    for name, parameter in parameter_slots(layer):
        plain.register_parameter(name, parameter)
    return plain.eval()


def _input_shapes(model: nn.Module, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of what each of these layers is given when one sample is shown."""
    if not names:
        return {}
    inputs = taken_by(model)

    def seen(network: nn.Module, values: Sequence[torch.Tensor]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for name in names:
            network.get_submodule(name).register_forward_pre_hook(
                lambda _layer, inputs, name=name: found.setdefault(name, tuple(inputs[0].shape)) and None
            )
        inputs.call(network, values)
        return found

    return on_a_copy(model, inputs, seen)


def _owners(model: nn.Module) -> dict[int, list[tuple[str, nn.Module]]]:
    """Return which modules hold each parameter, by its id; a module registered under several names counts once."""
    out: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, part in model.named_modules():
        for _, parameter in parameter_slots(part):
            if parameter is not None:
                out.setdefault(id(parameter), []).append((name, part))
    return out


def _shared(layer: nn.Module, owners: dict[int, list[tuple[str, nn.Module]]]) -> str:
    for key in ("weight", "bias"):
        held = owners.get(id(getattr(layer, key)), []) if getattr(layer, key) is not None else []
        others = [name or "the network itself" for name, part in held if part is not layer]
        if others:
            return f"shares its {key} with {others[0]}"
    return ""


class OpenAttention(nn.Module):
    """What `nn.MultiheadAttention` computes on one input, [B, N, D] -> ([B, N, D], None)."""

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        super().__init__()
        width = closed.embed_dim
        self.head_width = width // closed.num_heads  # how many heads there are follows from the layers' widths
        weights = closed.in_proj_weight.detach().chunk(3)
        biases = closed.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = (_linear(*pair) for pair in zip(weights, biases, strict=True))
        self.out = _linear(closed.out_proj.weight.detach(), closed.out_proj.bias.detach())

    def extra_repr(self) -> str:
        """Show what layers alone don't."""
        return f"head_width={self.head_width}"

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, need_weights: bool = False
    ) -> tuple[torch.Tensor, None]:
        """Return the attended values; the arguments are `nn.MultiheadAttention`'s, whose place this takes."""
        heads = F.scaled_dot_product_attention(
            self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        )
        return self.out(heads.transpose(1, 2).flatten(2)), None

    def _split(self, projected: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = projected.unflatten(-1, (-1, self.head_width)).transpose(
            1, 2
        )  # [B, heads, N, head width]
        return heads


def open_attention(model: nn.Module) -> None:
    """Put `OpenAttention` into the encoder layers of a torchvision ViT, in place; other attention is left as it is."""
    for block in model.modules():
        if isinstance(block, EncoderBlock) and _is_understood(block.self_attention):
            block.self_attention = OpenAttention(block.self_attention).eval()


def _is_understood(attention: nn.Module) -> bool:
    """Return whether this is the attention that `OpenAttention` computes: of one input, with biases, none added."""
    return (
        type(attention) is nn.MultiheadAttention
        and attention.batch_first
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=weight.device)
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return layer
