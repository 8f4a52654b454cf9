"""Networks: by name or your own; weights, data sets.

Models by name: `build` gives the network, which carries what it takes (`inputs_of`). Importing this imports no torch.
"""

from __future__ import annotations

from harness.networks.inputs import Inputs, image_side, inputs_of
from harness.networks.model_spec import ModelSpec, register
from harness.networks.network import build, example_input
from harness.networks.registry import names, spec

__all__ = ["Inputs", "ModelSpec", "build", "example_input", "image_side", "inputs_of", "names", "register", "spec"]
