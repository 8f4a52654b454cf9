"""What layers the compiler made: its own account of a built engine, kept beside it.

API: NVIDIA TensorRT documentation, "Python API: Core", IEngineInspector. An engine must be deserialised to be
inspected, which takes a GPU of the kind it was built for.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.engines.base import INSPECTOR_FILE
from harness.engines.tensorrt.flavour import Flavour
from harness.engines.tensorrt.gpu import local_gpu, sm_text
from harness.engines.tensorrt.loading import deserialise


def inspect(flavour: Flavour, serialised: bytes, target: tuple[int, int], folder: Path, errors: list[str]) -> str:
    """Write the layers to `folder`, and return "kept", or in a few words why there are none.

    An account that can't be had takes nothing from the engine, so nothing is raised.
    """
    gpu = local_gpu()
    if gpu is None:
        return "none: no GPU where it was built"
    if gpu.compute_capability != target:
        return f"none: built for {sm_text(target)} on a GPU of {sm_text(gpu.compute_capability)}"
    try:
        text = _layers(flavour, serialised, errors)
        json.loads(text)
    except Exception as error:  # CellError, a binding's own, or a text that is not JSON
        return f"none: {error}"
    (folder / INSPECTOR_FILE).write_text(text)
    return "kept"


def _layers(flavour: Flavour, serialised: bytes, errors: list[str]) -> str:
    """Return the inspector's JSON; runtime, engine and inspector are freed on return, in the opposite order."""
    runtime, engine = deserialise(flavour, serialised, errors)
    inspector = engine.create_engine_inspector()
    try:
        return str(inspector.get_engine_information(flavour.module().LayerInformationFormat.JSON))
    finally:
        del inspector
        del engine
        del runtime
