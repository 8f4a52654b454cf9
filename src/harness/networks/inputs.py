"""What a network takes and gives: named tensors, how it is called with them, and where their values come from.

Square images are the default. A module may give `inputs(batch_size)` beside the function that makes its network: it
returns a tensor, a tuple (in the order of `forward`'s parameters) or a dict (by their names), the batch first. It is
called with several batch sizes, in the processes that plan and build, and never in one that is timed.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

INPUT, LOGITS = "input", "logits"  # what a lone tensor is called that a network takes, or gives
DTYPES = ("float32", "int64", "int32", "int8", "uint8", "bool")  # that every engine has buffers for
_TRIED = (2, 3, 1)  # batch sizes that a user's function is tried with; one alone would hide one that is written into it
_SEED = 24_601  # of the values that a network is looked at with: no measured input has it


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. The first dimension is the batch; a dynamic one is -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # numpy name: float32, float16, int64, bool

    @property
    def is_floating(self) -> bool:
        """Whether a precision changes it: what counts or chooses (token ids, a mask) stays as it is."""
        return self.dtype.startswith("float")

    def __str__(self) -> str:
        """Return it in words: `ids [B, 64] int64`."""
        return f"{self.name} {_shaped(self.shape)} {self.dtype}"


@dataclass(frozen=True)
class Inputs:
    """What a network takes, named and in the order of a call. A dynamic batch is the first dimension of each.

    Values are standard normal unless `make` makes them: a user's function, called with a batch size and a seed.
    """

    specs: tuple[TensorSpec, ...]
    by_name: bool = False  # the network is called with them by name, else in their order
    make: Callable[..., Any] | None = None
    model: str = ""  # whose inputs they are, for messages

    def __str__(self) -> str:
        """Return them in words."""
        return ", ".join(map(str, self.specs))

    @property
    def names(self) -> tuple[str, ...]:
        """The names."""
        return tuple(spec.name for spec in self.specs)

    @property
    def image_side(self) -> int | None:
        """The side (pixels) where it takes square images of three channels and nothing else."""
        if len(self.specs) != 1 or self.by_name or self.specs[0].dtype != "float32":
            return None
        channels, *sides = (*self.specs[0].shape[1:], 0)[:3]
        square = len(self.specs[0].shape) == 4 and channels == 3 and len(set(sides)) == 1
        return sides[0] if square else None

    def tensors(self, batch_size: int, seed: int = _SEED) -> tuple[torch.Tensor, ...]:
        """Return values [batch_size, ...] in their order, the same for the same seed."""
        if self.make is not None:
            return tuple(_given(self.model, self.make, batch_size, seed)[0].values())
        import torch

        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(batch_size, *spec.shape[1:], generator=generator) for spec in self.specs)

    def arrays(self, batch_size: int, seed: int) -> dict[str, np.ndarray]:
        """Return values [batch_size, ...] by name to measure with; image i does not depend on the batch size."""
        if self.make is not None:
            return {name: value.numpy() for name, value in zip(self.names, self.tensors(batch_size, seed), strict=True)}
        return normal_arrays(self.specs, batch_size, seed)

    def call(self, network: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Return what `network` gives of `values`, which are in the order of the inputs."""
        return network(**dict(zip(self.names, values, strict=True))) if self.by_name else network(*values)


def sample_word(specs: Sequence[TensorSpec]) -> str:
    """Return what a batch is counted in: `image` of a network that takes pictures in colour and nothing else.

    Of any other one `sample`, which is also right where one is a picture after all.
    """
    if len(specs) != 1 or not specs[0].is_floating:
        return "sample"
    return "image" if len(specs[0].shape) == 4 and specs[0].shape[1] == 3 else "sample"


def normal_arrays(specs: Sequence[TensorSpec], count: int, seed: int) -> dict[str, np.ndarray]:
    """Return [count, ...] float32 by name from a standard normal; sample i does not depend on `count`."""
    from harness.networks.data.dataset import images

    return {spec.name: images(seed, count, spec.shape[1:]) for spec in specs}


def one_tensor(name: str, shape: Sequence[int]) -> Inputs:
    """Return one float32 input of `shape`, without the batch: images, or features that a stage hands on."""
    return Inputs((TensorSpec(name, (-1, *shape), "float32"),))


def image_inputs(side: int) -> Inputs:
    """Return images [B, 3, side, side] as the only input."""
    return one_tensor(INPUT, (3, side, side))


_NAME = "_harness_inputs"  # no network has an attribute of this name itself; many have an `image_size` of their own


def inputs_of(network: nn.Module) -> Inputs | None:
    """Return what `network` takes; None for one that does not carry that along."""
    found: Inputs | None = vars(network).get(_NAME)
    return found


def carry_inputs(network: nn.Module, inputs: Inputs | None) -> None:
    """Let `network` and its copies carry what it takes, past what its class does when attributes are set."""
    if inputs is not None:
        vars(network)[_NAME] = inputs


def image_side(network: nn.Module) -> int | None:
    """Return the side (pixels) of the images that `network` takes; None where it takes others, or does not say."""
    found = inputs_of(network)
    return None if found is None else found.image_side


def named_outputs(answer: Any) -> dict[str, Any]:
    """Return the tensors that a network gave by name, {} where that is not a tensor, a tuple or a dict of tensors."""
    import torch

    if isinstance(answer, torch.Tensor):
        return {LOGITS: answer}
    if isinstance(answer, Mapping):
        named: dict[Any, Any] = dict(answer)
    elif isinstance(answer, list | tuple):
        names = getattr(answer, "_fields", None) or [f"output_{number}" for number in range(len(answer))]
        named = dict(zip(names, answer, strict=True))
    else:
        return {}
    whole = all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in named.items())
    return named if whole else {}


def declared(model: str, function: Any, network: nn.Module, checked: bool = False) -> Inputs:
    """Return what `function`, a user's `inputs`, says that `network` takes; raise UserError where it can't be used.

    It must be callable, give the same structure for each batch size and the same values for the same seed; what was
    `checked` already is called once.
    """
    if not callable(function):
        raise UserError(f"model={model}: its inputs is {_a(function)}, not a function of the batch size")
    place = _place(function)
    made = {size: _given(model, function, size, _SEED) for size in (_TRIED[:1] if checked else _TRIED)}
    specs = {size: _specs(values, network, kind) for size, (values, kind) in made.items()}
    first = specs[_TRIED[0]]
    for size, found in specs.items():
        if found != first:
            raise UserError(
                f"model={model}: inputs({_TRIED[0]}) gives {_listed(first)} and inputs({size}) {_listed(found)}: "
                f"only the batch may differ{place}"
            )
    again = made[_TRIED[0]][0] if checked else _given(model, function, _TRIED[0], _SEED)[0]
    for name, value in made[_TRIED[0]][0].items():
        if not bool((value == again[name]).all()):
            raise UserError(
                f"model={model}: inputs() gives other values of {name!r} each time it is called: draw them from "
                f"torch's own generator, or take a parameter `seed`{place}"
            )
    return Inputs(first, made[_TRIED[0]][1] == "dict", function, model)


def _given(model: str, function: Callable[..., Any], size: int, seed: int) -> tuple[dict[str, torch.Tensor], str]:
    """Return what a user's function makes, by name, and whether that was a tensor, a tuple or a dict."""
    from harness.networks.own_code import alone_on_the_command_line, reported

    place = _place(function)
    with reported(f"model={model}: inputs({size}) failed{place}"), alone_on_the_command_line(model), _drawn_from(seed):
        answer = function(size, seed=seed) if _takes_seed(function) else function(size)
    values, kind = _named(answer)
    wrong = _wrong(answer, values, size)
    if wrong:
        raise UserError(f"model={model}: inputs({size}) {wrong}{place}")
    return {name: value.detach().contiguous() for name, value in values.items()}, kind


def _named(answer: Any) -> tuple[dict[Any, Any], str]:
    import torch

    if isinstance(answer, torch.Tensor):
        return {INPUT: answer}, "tensor"
    if isinstance(answer, Mapping):
        return dict(answer), "dict"
    if isinstance(answer, list | tuple):
        return {f"input_{number}": value for number, value in enumerate(answer)}, "tuple"
    return {}, ""


def _wrong(answer: Any, values: Mapping[Any, Any], size: int) -> str:
    """Return what is wrong with what a user's function gave; "" if nothing is."""
    import numpy as np
    import torch

    if not values:
        return f"returns {_a(answer)}{' that holds nothing' * hasattr(answer, '__len__')}, not tensors"
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            return f"returns a dict with the key {name!r}: a parameter of forward is named there"
        shown = f"gives {name!r} as {_a(value)}"
        if not isinstance(value, torch.Tensor):
            hint = ": torch.from_numpy makes one of it" if isinstance(value, np.ndarray) else ""
            return f"{shown}, not a tensor{hint}"
        if value.device.type != "cpu":
            return f"gives {name!r} on {value.device}: leave it on the CPU, engines move it"
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            return f"gives {name!r} as a sparse, nested or quantized tensor: give a plain one"
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            hint = "; the baseline is fp32 by definition, use .float()" if value.is_floating_point() else ""
            return f"gives {name!r} in {dtype}: choose one of {', '.join(DTYPES)}{hint}"
        if not value.dim() or value.shape[0] != size:
            return f"gives {name!r} of shape {list(value.shape)}: its first dimension must be the batch, {size} here"
        if value.is_floating_point() and value.isnan().any():
            return f"gives NaN in {name!r}"
    return ""


def _specs(values: Mapping[str, torch.Tensor], network: nn.Module, kind: str) -> tuple[TensorSpec, ...]:
    """Return the specs of what a user's function gave; what stands in a tuple is called as the parameter it is for."""
    names = list(values)
    if kind == "tuple":
        parameters = inspect.signature(network.forward).parameters.values()
        in_order = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        names = [*in_order[: len(names)], *names[len(in_order) :]]
    return tuple(
        TensorSpec(name, (-1, *value.shape[1:]), str(value.dtype).removeprefix("torch."))
        for name, value in zip(names, values.values(), strict=True)
    )


def _takes_seed(function: Callable[..., Any]) -> bool:
    try:
        return "seed" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function of a C library does not say
        return False


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Let torch, numpy and Python draw from `seed` inside, and give the caller's random states back."""
    import numpy as np

    from harness.networks.determinism import seeded

    numpy_state, python_state = np.random.get_state(), random.getstate()  # a user's code may draw there
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        with seeded(seed):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _place(function: Any) -> str:
    """Return where a user's function is, " (file.py:12)"; "" where that is not known."""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _shaped(shape: Sequence[int]) -> str:
    return f"[{', '.join('B' if not place else str(size) for place, size in enumerate(shape))}]"


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeio' else 'a'} {kind}"
