"""Device buffers with pinned host copies, allocated once and moved on one stream.

The device side is torch's, because a router decides on torch tensors; TensorRT only needs the address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from harness.engines.base import TensorSpec
from harness.system.errors import CellError


class Buffers:
    """One side, inputs or outputs: a device tensor and a pinned host tensor per name, both [max batch, ...].

    `channels_last` names the tensors [N, C, H, W] that lie in memory as NHWC.
    """

    def __init__(
        self, specs: tuple[TensorSpec, ...], max_size: int, device_index: int, channels_last: Collection[str] = ()
    ) -> None:
        import torch

        self.device: dict[str, Any] = {}
        self._host: dict[str, Any] = {}
        for spec in specs:
            shape, dtype = (max_size, *spec.shape[1:]), getattr(torch, spec.dtype)
            layout = torch.channels_last if spec.name in channels_last else torch.contiguous_format
            device = f"cuda:{device_index}"
            self.device[spec.name] = torch.empty(shape, dtype=dtype, device=device, memory_format=layout).zero_()
            self._host[spec.name] = torch.empty(shape, dtype=dtype, memory_format=layout, pin_memory=True).zero_()
        torch.cuda.synchronize(device_index)  # zeroed on torch's stream, used on another

    def write(self, arrays: Mapping[str, np.ndarray], stream: Any) -> None:
        """Copy host arrays into the first samples of the device buffers; returns once the copy is enqueued."""
        import torch

        stream.synchronize()  # an earlier copy may still be reading the pinned memory
        with torch.cuda.stream(stream):
            for name, array in arrays.items():
                if name not in self.device:
                    raise CellError(f"no input is called {name!r}: there are {sorted(self.device)}")
                size = len(array)
                self._host[name][:size].copy_(torch.from_numpy(np.ascontiguousarray(array)))
                self.device[name][:size].copy_(self._host[name][:size], non_blocking=True)

    def read(self, size: int, stream: Any) -> dict[str, np.ndarray]:
        """Return host copies of the first `size` samples, after everything enqueued on the stream."""
        import torch

        with torch.cuda.stream(stream):
            for name, tensor in self.device.items():
                self._host[name][:size].copy_(tensor[:size], non_blocking=True)
        stream.synchronize()
        return {name: tensor[:size].numpy().copy() for name, tensor in self._host.items()}

    def fill(self, value: float, stream: Any) -> None:
        """Fill every device buffer, in the stream's order."""
        import torch

        with torch.cuda.stream(stream):
            for tensor in self.device.values():
                tensor.fill_(value)
