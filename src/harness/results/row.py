"""The one row of a quartet, before it is logged: params, metrics, tags and files under the contract's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class QuartetRecord:
    """What one quartet leaves in MLflow. Metrics that are NaN or infinite are left out: they don't apply."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)  # name in MLflow ("figures/a.png") -> file
    description: str = ""  # Markdown, shown on the run's page
