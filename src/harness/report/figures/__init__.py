"""The pictures of a report, in the order they are shown: SVG in the page, PNG and SVG in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.figures.candidates import draw_batches, draw_pareto
from harness.report.figures.canvas import Picture
from harness.report.figures.factors import draw_forest, draw_gains, draw_heatmap
from harness.report.figures.machine import draw_roofline, draw_telemetry
from harness.report.figures.quartet import draw_headline, draw_latency, draw_stages
from harness.report.findings import Findings
from harness.report.study import Study

MOST_MATRICES = 12
MOST_QUARTETS = 16  # whose samples are read and drawn; all others keep theirs as artifacts
MOST_READINGS = 60  # quartets whose telemetry is read


def pictures(findings: Findings) -> dict[str, Picture]:
    """Return the pictures of a whole study by name, without reading any quartet's files."""
    drawn = [
        None if findings.headline is None else draw_headline(findings.headline),
        *(draw_heatmap(matrix, number) for number, matrix in enumerate(findings.matrices[:MOST_MATRICES], start=1)),
        draw_forest(findings.quartets, findings.correction.title),
        draw_gains([quartet for quartet in findings.quartets if not quartet.is_control]),
        draw_pareto(findings.choice),
        draw_batches(findings.choice.candidates),
        draw_roofline(findings.quartets),
    ]
    return {picture.name: picture for picture in drawn if picture is not None}


def latencies(study: Study, findings: Findings) -> Iterator[tuple[str, Picture]]:
    """Give the latency picture of the quartets, by run id; of many, the first ones."""
    finished = [quartet for quartet in findings.quartets if quartet.status == "FINISHED"]
    for number, quartet in enumerate(finished[:MOST_QUARTETS], start=1):
        picture = draw_latency(quartet, study.files.samples(quartet.run_id), number)
        if picture is not None:
            yield quartet.run_id, picture


def stages(study: Study, findings: Findings) -> Iterator[tuple[str, Picture, Mapping[str, Any]]]:
    """Give the picture of where the time goes and what it was drawn from, by run id; of many quartets, the first."""
    finished = [quartet for quartet in findings.quartets if quartet.status == "FINISHED"]
    for number, quartet in enumerate(finished[:MOST_QUARTETS], start=1):
        why = study.files.json(quartet.run_id, "interaction.json").get("why") or {}
        picture = draw_stages(quartet, why, number)
        if picture is not None:
            yield quartet.run_id, picture, why


def telemetry(study: Study, findings: Findings) -> Picture | None:
    """Return the machine's readings over the study."""
    finished = [quartet for quartet in findings.quartets if quartet.status == "FINISHED"]
    readings = (study.files.telemetry(quartet.run_id) for quartet in finished[:MOST_READINGS])
    return draw_telemetry([table for table in readings if table is not None])


__all__ = ["Picture", "pictures"]
