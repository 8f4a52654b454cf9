"""Where results, exports and engines are kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrackingConfig:
    """Where results go."""

    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite under `root`
    root: str = "mlruns"  # folder of the embedded store
    experiment: str = "harness"  # MLflow's name for where the runs go
    report: bool = True  # put the sweep's report (page, figures, table) into its parent run


@dataclass
class CacheConfig:
    """Where exports and engines are kept."""

    dir: str = ".harness_cache"  # of this host; HARNESS_CACHE sets it too
    shared: str | None = None  # a URL for fsspec (s3://bucket/prefix, file:///folder) where hosts share what they built
