"""The pictures of a report, in the order they are shown: SVG in the page, PNG and SVG in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.figures.candidates import draw_batches, draw_pareto
from harness.report.figures.canvas import Picture
from harness.report.figures.factors import draw_forest, draw_gains, draw_heatmap
from harness.report.figures.machine import draw_roofline, draw_telemetry
from harness.report.figures.quartet import draw_latency, draw_stages
from harness.report.findings import Findings
from harness.report.study import Study

MOST_MATRICES = 12
MOST_QUARTETS = 16  # whose samples are read and drawn; all others keep theirs as artifacts
MOST_READINGS = 60  # quartets whose telemetry is read


def pictures(findings: Findings) -> dict[str, Picture]:
    """Return the pictures of a whole study by name, without reading any quartet's files."""
    drawn = [
        *(draw_heatmap(matrix, number) for number, matrix in enumerate(findings.matrices[:MOST_MATRICES], start=1)),
        draw_forest(findings.quartets),
        draw_gains([one for one in findings.quartets if not one.is_control]),
        draw_pareto(findings.choice),
        draw_batches(findings.choice.candidates),
        draw_roofline(findings.quartets),
    ]
    return {one.name: one for one in drawn if one is not None}


def latencies(study: Study, findings: Findings) -> Iterator[tuple[str, Picture]]:
    """Give the latency picture of the quartets, by run id; of many, the first ones."""
    finished = [one for one in findings.quartets if one.status == "FINISHED"]
    for number, one in enumerate(finished[:MOST_QUARTETS], start=1):
        picture = draw_latency(one, study.files.samples(one.run_id), number)
        if picture is not None:
            yield one.run_id, picture


def stages(study: Study, findings: Findings) -> Iterator[tuple[str, Picture, Mapping[str, Any]]]:
    """Give the picture of where the time goes and what it was drawn from, by run id; of many quartets, the first."""
    finished = [one for one in findings.quartets if one.status == "FINISHED"]
    for number, one in enumerate(finished[:MOST_QUARTETS], start=1):
        why = study.files.json(one.run_id, "interaction.json").get("why") or {}
        picture = draw_stages(one, why, number)
        if picture is not None:
            yield one.run_id, picture, why


def telemetry(study: Study, findings: Findings) -> Picture | None:
    """Return the machine's readings over the study."""
    finished = [one for one in findings.quartets if one.status == "FINISHED"]
    readings = (study.files.telemetry(one.run_id) for one in finished[:MOST_READINGS])
    return draw_telemetry([one for one in readings if one is not None])


__all__ = ["Picture", "pictures"]
