"""A network's weights as one short text, to tell whether two processes hold the same network."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import torch
from torch import nn

_LIBRARIES = frozenset({"torch", "torchvision", "timm", "harness"})  # an export knows their versions


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of every parameter and buffer: name, dtype, shape and bytes, in module order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        # Flattened first, because a scalar can't be viewed as bytes.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def foreign_source(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of the files that define the modules of `model` which are no library's, "" for none.

    Two networks of equal layers and weights may differ in how their `forward` joins them.
    """
    files = {
        Path(file)
        for kind in {type(part) for part in model.modules()}
        if kind.__module__.partition(".")[0] not in _LIBRARIES
        if (file := inspect.getsourcefile(kind)) is not None
    }
    if not files:
        return ""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
