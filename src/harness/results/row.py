"""The one row of a quartet, before it is logged: params, metrics, tags and files under the contract's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results.headline import columns_for_people
from harness.system.machine import environment

if TYPE_CHECKING:
    import pandas


# what each tag says, of a quartet and of a sweep
TAGS = {
    "kind": "`sweep`, `quartet`, `training`",
    "boundary": "what the verdict is of",
    "verdict": "`amplify`, `conflict`, `independent`, `inconclusive`",
    "verdict_holm": "the verdict after Holm's correction over the quartets of the sweep",
    "verdict_bh": "the same after Benjamini and Hochberg's, instead of it with `protocol.family=bh`",
    "outcome": "to read: the verdict after the correction, with `degraded` where a cell did less than requested",
    "factor": "to read: the factor with its interval, rounded; `interaction/factor` has all digits",
    "together": "to read: the combined gain in the digits that the interval supports",
    "expected": "likewise, arch x hw",
    "sample": "what a batch is counted in: `image`, or `sample` where the network takes something else",
    "unit": "to read: of the throughputs that follow, `images/s`, `samples/s`, or `requests/s` under load",
    "baseline_per_s": "to read: throughput on the primary boundary in four digits",
    "arch_per_s": "likewise",
    "hw_per_s": "likewise",
    "combined_per_s": "likewise",
    "sweep": "the name of its sweep",
    "reason": "of the verdict",
    "strategy": "one sentence of advice",
    "why": "where the factor comes from",
    "converged": "whether the interval became narrow within the budget",
    "unstationary": "how the run changed while it was measured, if it did",
    "host_bound": "whether a cell waits for its host",
    "degraded": "which cell did less than requested, and why",
    "untrained": "which cells have weights that nothing was learnt in, and why: they have no accuracy",
    "note": "what else a reader must know",
    "coursework_verdict": "what the usual recipe says",
    "loadgen": "LoadGen's own verdict",
    "engine_version": "of the combined cell",
    "gpu": "the chip's name",
    "device": "its id",
    "host": "the machine",
    "git_sha": "of the code; `-dirty` with changes",
    "quartet_key": "of all that can change the result; what `resume` goes by",
    "delivery": "a number by which a row is recognised, so that it is never logged twice",
    "adopted": "of a row that an unfinished sweep left: which one",
    "engine": "of a sweep: its engines",
    "command": "of a sweep: what started it",
    "process": "of a sweep: its process",
    "grid_key": "of a sweep: its grid",
    "left_out": "of a sweep with `on_unsupported=skip`: the jobs that can't be measured, and why",
    "continues": "of a sweep: the sweep that it resumes",
    "error": "why a run is FAILED or KILLED",
}
OF_SWEEPS = ("command", "process", "grid_key", "left_out", "continues")  # tags that no quartet has

# what each param says; those of options (`arch.*`, `hw.*`, `protocol.*`, `scenario.*`) are the options' own
PARAMS = {
    "model": "the network",
    "arch": "architecture techniques that are on, joined: `grouped+low_rank`; `none`",
    "hw": "hardware techniques that are on, joined",
    "batch_size": "images, or samples where the network takes something else",
    "engine": "of the combined cell",
    "reference": "what the baseline runs on: `eager` or `engine`",
    "scenario": "`fixed`, `single_stream`, `offline` or `server`",
    "precision": "`fp32`, `tf32`, `fp16`, `bf16`, `int8` or `int8+fp16`, of the combined cell",
    "weights": "of the network: a name, a file, or `random` with its seed",
    "arch_weights": "trained ones of the changed network, where there are any",
    "data": "the images",
    "image_size": "pixels of a side; none where the network says by `inputs` what it takes",
}


@dataclass(frozen=True)
class QuartetRecord:
    """What one quartet leaves in MLflow. Metrics that are NaN or infinite are left out: they don't apply."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)  # name in MLflow ("figures/a.png") -> file
    description: str = ""  # Markdown, shown on the run's page


@dataclass
class RowDraft:
    """A row in the making: what was built, measured and explained each adds its part, its files below `folder`."""

    folder: Path
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)  # an empty one does not apply
    notes: list[str] = field(default_factory=list)  # of the tag `note`; an empty one does not apply
    details: dict[str, Any] = field(default_factory=dict)  # of interaction.json
    artifacts: dict[str, Path] = field(default_factory=dict)
    description: str = ""

    def file(self, name: str) -> Path:
        """Return where to write the artifact of this name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.artifacts[name] = path
        return path

    def table(self, name: str, rows: pandas.DataFrame) -> None:
        """Write a table as parquet."""
        rows.to_parquet(self.file(name), index=False)

    def finished(self, resolved_config: str) -> QuartetRecord:
        """Return the row, with the files that every quartet has."""
        self.file("interaction.json").write_text(json.dumps(self.details, indent=1, default=str))
        self.file("environment.json").write_text(json.dumps(environment(), indent=1))
        self.file("config.yaml").write_text(resolved_config)
        tags = {**self.tags, "note": "; ".join(note for note in self.notes if note)}
        tags = {name: value for name, value in tags.items() if value != ""}
        tags |= columns_for_people({**self.metrics, **tags})
        return QuartetRecord(metrics=self.metrics, tags=tags, artifacts=self.artifacts, description=self.description)
