"""Before an engine is loaded: it is what was asked for, built for this machine, unchanged since (a plan is code).

The cache checks the same on the way out; here it is checked once more by the process that loads, right before it does.
"""

from __future__ import annotations

from harness.engines.base import Artifact
from harness.engines.build import artifact_key
from harness.system.cache import intact
from harness.system.errors import CellError


def check_seal(artifact: Artifact) -> None:
    """Raise CellError unless the artifact's key is the one of this plan on this machine and its files are unchanged.

    The key holds engine and version, GPU, compute capability and driver (or the CPU), graph and options.
    """
    name = artifact.plan.engine
    if not artifact.key or artifact.main_file not in artifact.files:
        raise CellError(f"engine {name}: an artifact that did not come through the cache is not loaded")
    if artifact.key != artifact_key(artifact.plan, artifact.settled):
        raise CellError(
            f"engine {name}: built for another engine version, GPU, driver or plan than the one here: build it again"
        )
    if not intact(artifact.path, artifact.files):
        raise CellError(f"engine {name}: the artifact was changed since it was built: it is not loaded")
