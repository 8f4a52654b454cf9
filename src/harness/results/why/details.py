"""A quartet's why as plain data: what its row keeps in `interaction.json`, every number behind the sentences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.results.why.explain import Why, part_times


def details(why: Why) -> dict[str, Any]:
    """Return all of it, ready for JSON: logarithms of factors, milliseconds by part and role, and the profiles."""
    return {
        "boundary": why.boundary,
        "sentences": why.sentences,
        "log_factor": why.stagewise.log_factor,
        "log_host": why.stagewise.host,
        "log_amdahl": why.stagewise.amdahl,
        "log_parts": dict(why.stagewise.parts),
        "part_ms": part_times(why),
        "incomplete": why.incomplete,
        "profiles": {role: asdict(profile) for role, profile in why.profiles.items()},
    }
