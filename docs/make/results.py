"""The page of metrics, params and tags, made from their declarations in `harness.results`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def page(source: Path) -> str:
    """Return the page as Markdown; `source`, the package's folder, is asked for by its import alone."""
    from harness.results.metrics import declared
    from harness.results.row import PARAMS, TAGS

    headed = ("metric", "unit", "better", "what")
    rows: dict[str, list[tuple[str, ...]]] = {"cell": [], "quartet": []}
    for metric in declared():
        better = "" if metric.better == "neutral" else metric.better
        rows[metric.of].append((f"`{metric.name}`", metric.unit, better, metric.meaning))
    parts = [INTRODUCTION, OF_A_CELL, _table(headed, rows["cell"])]
    parts += ["## Metrics of the quartet\n", _table(headed, rows["quartet"])]
    parts += ["## Params\n", _named("param", PARAMS), OPTIONS]
    parts += ["## Tags\n", _named("tag", TAGS), ARTIFACTS]
    return "\n".join(parts)


def _named(kind: str, meanings: Mapping[str, str]) -> str:
    return _table((kind, "what"), [(f"`{name}`", meaning) for name, meaning in meanings.items()])


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


INTRODUCTION = """\
# Metrics, params, tags

What a run in MLflow holds, and so the columns of `harness.load()`; made from the declarations in `src/harness/results/`
when this site is built. A metric that does not apply, or has too few samples, is absent: never 0, never guessed.
`{a,b}` stands for one name each.
"""

OF_A_CELL = """\
## Metrics of a cell

Without a prefix: of the combined cell. With `baseline/`, `arch/` or `hw/` before them: of that one.
"""

OPTIONS = """\
Then, under the names of [groups and options](options.md): the options of the techniques that are on
(`arch.grouped.groups`), all of `protocol.*`, and under load those of `scenario.*`.

A sweep's own run has what the sweep committed itself to before its first block: `protocol.margin`, `protocol.level`,
`protocol.family`, `protocol.half_width` (several values where its quartets differ), `decision_level`, and
`plan_sha256`, the SHA-256 of its `plan.json`. MLflow lets nobody change a param.
"""

ARTIFACTS = """\
## Artifacts

| file | what |
|---|---|
| `samples.parquet` | every timed iteration: cell, restart, block, order, boundary, milliseconds |
| `interaction.json` | intervals, what was known of other builds and restarts, proof of levels, warm-up, profiles |
| `environment.json` | chip, driver, versions |
| `config.yaml` | the resolved config |
| `telemetry.parquet` | clocks, temperature, power, load after each visit |
| `figures/quartet.png`, `figures/lines.png` | the quartet in a picture; its four bars, as the run's page shows them |
| `answers.parquet`, `skipped_images.txt` | labelled data: answer of each image; what could not be read |
| `visits.parquet` | sums of all iterations, where `samples.parquet` holds every n-th |
| `serving.json`, `loadgen/` | under load: the curves, LoadGen's summaries |
| `queries.parquet`, `batches.parquet` | under load: every request, every batch |
| `inspector/` | layers, as the engine reports them |
| `report.html` | in the sweep's own run |
| `plan.json` | likewise, from before its first block: each quartet with its boundary, its protocol and its key |
"""
