"""Draw the latency over the rate of a quartet under load, as its run in MLflow shows it, from its committed files.

python experiments/serving_figure.py experiments/serving_h100/serving_pruned --out FILE.svg
"""

from __future__ import annotations

import json
from pathlib import Path

from study_figure import asked, load, save

from harness.results.figures import draw_latency_rate


def draw(folder: Path, path: Path) -> None:
    """Write the figure of the one quartet that the folder holds."""
    (row,) = load([folder]).itertuples()
    (serving,) = folder.glob("*-serving.json")
    save(draw_latency_rate(json.loads(serving.read_text()), f"{row.arch} x {row.hw}, {row.model}"), path)


if __name__ == "__main__":
    (study,), out = asked(__doc__)
    draw(study, out)
