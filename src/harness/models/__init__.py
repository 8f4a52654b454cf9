"""Models by name: `build` gives the network, `example_input` what it takes. Importing this imports no torch."""

from __future__ import annotations

from harness.models.model_spec import ModelSpec, register
from harness.models.network import build, example_input
from harness.models.registry import names, spec

__all__ = ["ModelSpec", "build", "example_input", "names", "register", "spec"]
