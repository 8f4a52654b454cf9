"""A network's identity: the digest of all that it computes, the key of its exports and reference answers.

A walk over every value that a network holds and what its own functions look up elsewhere, instead of an export, which
takes seconds. Values count, not their `repr`: that leaves out what an author did not print, and may hold addresses.
What can't be looked into (a lock, a handle of a C library) counts by its type alone.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.config.sources import is_source, source_digest
from harness.networks.inputs import Inputs
from harness.system.library_internals import script_module_text

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, slice, torch.dtype, torch.device)
_MANGLED = re.compile(r"\.___torch_mangle_\d+| # [^\n]*")  # TorchScript numbers a process's classes, and notes paths
_MOST_DEPTH = 120  # deeper than any network; a chain of objects must not end in a RecursionError
_OF_A_CLASS = frozenset({"__dict__", "__weakref__", "__doc__", "__annotations__", "__abstractmethods__", "_abc_impl"})


class Walk:
    """One walk over a network. `state`: what it holds itself; `shared`: globals and class attributes that it uses.

    Two networks built one after the other in a process share the latter, and may change it; the former is their own.
    """

    def __init__(self, model: nn.Module, without: Collection[str] = ()) -> None:
        """Look at all of `model` but its own attributes `without`; changes nothing."""
        self._model, self._without = model, frozenset(without)
        self.modules: set[str] = set()  # names of the Python modules that define what was met
        self._digests: dict[int, str] = {}
        self._held: list[Any] = []  # as long as a digest goes by an object's id
        self._open: dict[int, int] = {}
        self._ordinals: dict[int, int] = {}
        self._later: list[types.FunctionType | type] = []
        self.state = self._of(model)
        self.shared = _hashed("shared", *self._shared())

    def _of(self, value: Any) -> str:
        if type(value) in _PLAIN:
            return _hashed(type(value).__name__, repr(value))
        key = id(value)
        if key in self._digests:
            return self._digests[key]
        if key in self._open or len(self._open) > _MOST_DEPTH:
            return _hashed("again", str(self._open.get(key)), type(value).__qualname__)
        self._held.append(value)
        self._open[key] = len(self._open)
        try:
            self._digests[key] = _hashed(*self._parts(value))
        finally:
            del self._open[key]
        return self._digests[key]

    def _parts(self, value: Any) -> Iterator[str]:
        kind = type(value)  # not `isinstance`, which asks the value: a proxy answers for its target, or raises
        if issubclass(kind, type):
            yield from self._type(value)
            return
        yield self._of(kind)
        look = next((how for kinds, how in _LOOKS if issubclass(kind, kinds)), Walk._object)
        yield from look(self, value)

    def _type(self, value: type) -> Iterator[str]:
        yield f"{value.__module__}.{value.__qualname__}"
        for kind in value.__mro__:
            self.modules.add(str(kind.__module__))
            if is_source(str(kind.__module__)):
                self._later.append(kind)

    def _module(self, value: nn.Module) -> Iterator[str]:
        yield self._ordinal(value)
        if isinstance(value, torch.jit.ScriptModule):
            yield _MANGLED.sub("", script_module_text(value))
            return
        yield self._of(type(value).forward)  # somebody may have put another one into a library's class
        attributes = vars(value)
        if isinstance(value, torch.fx.GraphModule):  # its other attributes are notes on where it came from
            yield from (value.code, str(value.graph))
            attributes = {name: attributes[name] for name in ("_parameters", "_buffers", "_modules", "training")}
        for name, attribute in attributes.items():
            if value is self._model and name in self._without:
                continue
            yield name
            if isinstance(attribute, Inputs):  # what it says and what makes the values, not our class
                yield from (str(attribute), str(attribute.by_name), self._of(attribute.make))
                continue
            # hooks are kept under numbers that count all hooks of the process
            yield self._of(list(attribute.values()) if "_hooks" in name and isinstance(attribute, dict) else attribute)

    def _tensor(self, value: torch.Tensor) -> Iterator[str]:
        yield self._ordinal(value)  # a tied weight is another graph than two equal ones
        yield f"{value.dtype} {value.layout} {value.device.type} {tuple(value.shape)}"
        if value.layout == torch.strided:
            yield f"{value.stride()}"
        try:
            yield _tensor_sha256(value)
        except Exception:  # a subclass without bytes of its own: what it wraps is among its attributes
            yield "no bytes"
        yield from self._attributes(value)

    def _array(self, value: np.ndarray | np.generic) -> Iterator[str]:
        yield f"{value.dtype} {value.shape}"
        yield self._of(value.tolist()) if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()

    def _enum(self, value: Enum) -> Iterator[str]:
        yield value.name
        yield self._of(value.value)

    def _mapping(self, value: Mapping[Any, Any]) -> Iterator[str]:
        for key, item in value.items():
            yield from (self._of(key), self._of(item))
        yield from self._attributes(value)

    def _unordered(self, value: set[Any] | frozenset[Any]) -> Iterator[str]:
        yield from sorted(self._of(item) for item in value)

    def _sequence(self, value: list[Any] | tuple[Any, ...] | deque[Any]) -> Iterator[str]:
        yield from (self._of(item) for item in value)
        yield from self._attributes(value)

    def _function(self, value: types.FunctionType) -> Iterator[str]:
        module, name = str(value.__module__), value.__qualname__
        yield f"{module}.{name}"
        self.modules.add(module)
        is_authors = is_source(module)
        if is_authors or "<" in name:  # one made within another function: what it closes over is its own
            yield self._of(value.__code__)
            yield from (self._of(value.__defaults__), self._of(value.__kwdefaults__))
            for cell in value.__closure__ or ():
                yield self._of(_content(cell))
            yield self._of(vars(value))
        if is_authors:
            self._later.append(value)

    def _code(self, value: types.CodeType) -> Iterator[str]:
        yield value.co_code.hex()
        yield from (self._of(part) for part in (value.co_consts, value.co_names, value.co_varnames, value.co_freevars))

    def _method(self, value: types.MethodType) -> Iterator[str]:
        yield from (self._of(value.__func__), self._of(value.__self__))

    def _builtin(self, value: types.BuiltinFunctionType) -> Iterator[str]:
        yield f"{value.__module__}.{value.__qualname__}"
        if value.__self__ is not None and not isinstance(value.__self__, types.ModuleType):
            yield self._of(value.__self__)

    def _partial(self, value: functools.partial[Any]) -> Iterator[str]:
        yield from (self._of(value.func), self._of(value.args), self._of(value.keywords))
        yield from self._attributes(value)

    def _reference(self, value: weakref.ref[Any]) -> Iterator[str]:
        yield self._of(value())

    def _python_module(self, value: types.ModuleType) -> Iterator[str]:
        self.modules.add(value.__name__)
        yield value.__name__

    def _text(self, value: Any) -> Iterator[str]:
        yield str(value)

    def _wrapped(self, value: Any) -> Iterator[str]:
        for name in ("__func__", "__wrapped__", "fget", "fset", "func"):
            yield self._of(getattr(value, name, None))

    def _object(self, value: Any) -> Iterator[str]:
        yield from self._attributes(value)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # a lock, a file, a handle: nobody can tell what is in it
            return
        if isinstance(reduced, str):
            yield reduced
            return
        for part in reduced:
            yield self._of(list(part) if isinstance(part, Iterator) else part)

    def _attributes(self, value: Any) -> Iterator[str]:
        try:
            held = vars(value)
        except Exception:  # it has none, or somebody else's class does not say
            return
        if held:
            yield self._of(held)

    def _ordinal(self, value: Any) -> str:
        return str(self._ordinals.setdefault(id(value), len(self._ordinals)))

    def _shared(self) -> Iterator[str]:
        """Give the digests of what own functions and classes refer to; that may lead to more of them."""
        seen: set[int] = set()
        while self._later:
            value = self._later.pop(0)
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield f"{value.__module__}.{value.__qualname__}"
            if isinstance(value, type):
                for name, attribute in vars(value).items():
                    if name not in _OF_A_CLASS:
                        yield from (name, self._of(attribute))
            else:
                yield from self._globals(value.__globals__, _names(value.__code__))

    def _globals(self, space: Mapping[str, Any], names: frozenset[str], depth: int = 3) -> Iterator[str]:
        """Give the digests of the names that code looks up; of a module of the author's, those it may take from it."""
        for name in sorted(names & space.keys()):
            value = space[name]
            yield name
            if isinstance(value, types.ModuleType) and is_source(value.__name__) and depth:
                self.modules.add(value.__name__)
                yield from self._globals(vars(value), names, depth - 1)
            else:
                yield self._of(value)


def _hashed(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(data) + data)  # with its length: two parts are not one
    return digest.hexdigest()


def _tensor_sha256(value: torch.Tensor) -> str:
    if value.device.type == "meta":
        return ""
    plain = value.detach().cpu()
    if plain.is_quantized:
        return _tensor_sha256(plain.int_repr()) + repr((plain.qscheme(), plain.dequantize().flatten()[:1].tolist()))
    dense = (plain.to_dense() if plain.layout != torch.strided else plain).resolve_conj().resolve_neg()
    data = dense.contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(data.data).hexdigest()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*inner)


# the first that fits is taken
_LOOKS: tuple[tuple[tuple[type, ...], Callable[[Walk, Any], Iterator[str]]], ...] = (
    ((torch.Tensor,), Walk._tensor),
    ((nn.Module,), Walk._module),
    ((Enum,), Walk._enum),
    ((np.ndarray, np.generic), Walk._array),
    ((dict, types.MappingProxyType), Walk._mapping),
    ((set, frozenset), Walk._unordered),
    ((list, tuple, deque), Walk._sequence),
    ((types.FunctionType,), Walk._function),
    ((types.MethodType,), Walk._method),
    ((types.BuiltinFunctionType,), Walk._builtin),
    ((types.CodeType,), Walk._code),
    ((functools.partial,), Walk._partial),
    ((types.ModuleType,), Walk._python_module),
    ((weakref.ref,), Walk._reference),
    ((property, staticmethod, classmethod, functools.cached_property, type(functools.cache(len))), Walk._wrapped),
    ((torch.fx.Graph, type(torch.ops.aten.add.Tensor), type(torch.ops.aten.add), torch.memory_format), Walk._text),
)


@dataclass(frozen=True)
class Identity:
    """What makes two networks the same; equal weights are not enough, because code may use them differently."""

    exact: (
        str  # of all that decides what it computes: two networks of equal `exact` share exports and reference answers
    )
    state: str  # without globals and class attributes, which networks built earlier in the process may have changed


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of every parameter and buffer: name, dtype, shape and bytes, in module order.

    A state dict may hold more than tensors (`get_extra_state`): that is not a weight, but counts in the identity.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        # Flattened first, because a scalar can't be viewed as bytes.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def identity(model: nn.Module, sources: Collection[str] = (), without: Collection[str] = ()) -> Identity:
    """Return the identity of `model`: weights, structure, every value it holds, every source that it runs.

    `sources` names the Python modules that it is made from, beside those that define its parts. Of `model` itself the
    attributes `without` are left out: they do not change what it computes.
    """
    walk = Walk(model, without)
    found = [fingerprint(model), walk.state, source_digest({*walk.modules, *sources})]
    return Identity(exact=_sha256(*found, walk.shared), state=_sha256(*found))


def _sha256(*digests: str) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
