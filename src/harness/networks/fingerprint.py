"""What tells networks apart: their weights as one short text, and the exact identity that results are kept under."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from harness.config.sources import source_digest
from harness.networks.computation import Walk


@dataclass(frozen=True)
class Identity:
    """What makes two networks the same one; weights alone do not, for one may use them otherwise."""

    exact: (
        str  # of all that decides what it computes: two networks of equal `exact` share exports and reference answers
    )
    own: str  # without globals and class attributes, which networks built earlier in the process may have changed


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of every parameter and buffer: name, dtype, shape and bytes, in module order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
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
    return Identity(exact=_sha256(*found, walk.shared), own=_sha256(*found))


def _sha256(*digests: str) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
