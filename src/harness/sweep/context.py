"""What the jobs of one sweep share, handed to them in whatever process they run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

CONTEXT_VARIABLE = "HARNESS_SWEEP"  # an environment variable reaches the jobs of every launcher


@dataclass(frozen=True)
class SweepContext:
    """What the jobs of one sweep share."""

    sweep_id: str
    name: str
    engines: dict[str, str]  # as asked for ("auto", or a name) -> resolved
    device: str
    total: int  # jobs
    store_uri: str
    store_root: str
    store_experiment: str

    def publish(self) -> None:
        """Hand this to the jobs, in whatever process they run."""
        os.environ[CONTEXT_VARIABLE] = json.dumps(asdict(self))

    @staticmethod
    def received() -> SweepContext:
        """Return what `publish` handed over."""
        return SweepContext(**json.loads(os.environ[CONTEXT_VARIABLE]))
