"""Networks: by name or your own; weights, data sets.

Models by name: `build` gives the network, `example_input` what it takes. Importing this imports no torch.
"""

from __future__ import annotations

from harness.networks.model_spec import ModelSpec, image_side, register
from harness.networks.network import build, example_input
from harness.networks.registry import names, spec

__all__ = ["ModelSpec", "build", "example_input", "image_side", "names", "register", "spec"]
