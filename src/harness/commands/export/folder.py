"""The folder that is taken away: graphs, engines, weights, model.json, loader.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines import get
from harness.engines.base import TakenAway
from harness.engines.loaders import loader_text
from harness.measure.cell import Cell, QuartetPlan
from harness.networks.inputs import TensorSpec
from harness.results.headline import headline_of
from harness.stats.roles import prefix_of
from harness.system.errors import CellError
from harness.system.machine import environment

if TYPE_CHECKING:
    from harness.tracking.load import StoredQuartet

LOADER, MODEL, WEIGHTS = "loader.py", "model.json", "weights.safetensors"
FORMAT = 1  # of model.json
_TEXTS = Path(__file__).parent / "loaders"


def write_folder(folder: Path, quartet: StoredQuartet, plan: QuartetPlan, cell: Cell) -> list[str]:
    """Fill `folder` (exists, empty) with everything but the answers to check by; return notes for a person.

    Raises CellError where the cell can't be run without this project.
    """
    if len(cell.artifacts) > 1 and not cell.router.loader:
        raise CellError(
            f"{type(cell.router).__name__} decides which samples leave between the stages, and has no `loader` that "
            "does so without this project."
        )
    stages, taken = [], []
    for number, artifact in enumerate(cell.artifacts):
        place = folder / f"stage{number + 1}"
        place.mkdir()
        found = get(artifact.plan.engine).take_away(artifact, place)
        graph = place / "model.onnx"
        shutil.copyfile(artifact.plan.graph.path, graph)
        taken.append(found)
        stages.append(_stage(cell, number, found, place.name, graph.name))
    if len({found.loader for found in taken}) > 1:
        raise CellError(f"its stages need several loaders: {'; '.join(found.note for found in taken)}.")
    _write_weights(cell, folder / WEIGHTS)
    about = _about(quartet, plan, cell, stages, taken)
    (folder / MODEL).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (folder / LOADER).write_text(_loader(cell, taken[0]), encoding="utf-8")
    return list(dict.fromkeys(f"{found.note[:1].upper()}{found.note[1:]}." for found in taken))


def _write_weights(cell: Cell, path: Path) -> None:
    """Write the parameters and buffers of the whole network, in fp32 and under PyTorch's names."""
    from safetensors.torch import save_model

    from harness.techniques.arch.recipe import rebuild

    save_model(rebuild(cell.recipe), str(path))
    path.chmod(0o666 & (path.parent.stat().st_mode | 0o600))  # the library writes for its user alone


def _stage(cell: Cell, number: int, taken: TakenAway, place: str, graph: str) -> dict[str, Any]:
    """Return what the loader reads of one stage."""
    plan = cell.artifacts[number].plan
    engine = None if taken.main_file is None else f"{place}/{taken.main_file}"
    return {
        "graph": f"{place}/{graph}",
        "graph_sha256": plan.graph.sha256,
        "engine": engine,
        "runs": engine or f"{place}/{graph}",
        "head": cell.router.heads[number] if len(cell.artifacts) > 1 else plan.graph.outputs[0].name,
        "inputs": [_tensor(spec) for spec in plan.graph.inputs],
        "outputs": [_tensor(spec) for spec in plan.graph.outputs],
        "batch": _batch(cell, number),
        **taken.facts,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": ["batch", *spec.shape[1:]], "dtype": spec.dtype}


def _batch(cell: Cell, number: int) -> dict[str, int]:
    """Return the batch sizes that a stage takes: a graph takes all."""
    batch = cell.artifacts[number].plan.batch
    return {"min": batch.min_size, "usual": batch.opt_size, "max": batch.max_size}


def _about(
    quartet: StoredQuartet,
    plan: QuartetPlan,
    cell: Cell,
    stages: Sequence[Mapping[str, Any]],
    taken: Sequence[TakenAway],
) -> dict[str, Any]:
    """Return model.json."""
    machine, row = environment(), quartet.row
    headline = headline_of(row)
    last = [spec for spec in stages[-1]["outputs"] if len(stages) == 1 or spec["name"] == stages[-1]["head"]]
    first_plan = cell.artifacts[0].plan
    return {
        "format": FORMAT,
        "inputs": stages[0]["inputs"],
        "outputs": last,
        "precision": first_plan.arithmetic.name,
        "batch": _batch(cell, 0),
        "stages": stages,
        "router": asdict(cell.router) or None,  # who leaves between the stages: its threshold or share
        "engine": {
            "name": cell.engine,
            "version": cell.artifacts[0].engine_version,
            "travels": all(found.main_file is not None for found in taken),
            "notes": list(dict.fromkeys(found.note for found in taken)),
        },
        "degraded": list(cell.degraded),
        "measured": {
            "run": quartet.run_id,
            "name": quartet.name,
            "cell": cell.role,
            "model": plan.config.model.name,
            "arch": list(plan.arch) if cell.role in ("arch", "combined") else [],
            "hw": list(plan.hw) if cell.role in ("hw", "combined") else [],
            "headline": None if headline is None else headline.sentence,
            "throughput_ips": row.get(f"{prefix_of(cell.role)}throughput/{row.get('boundary')}"),
            "boundary": row.get("boundary"),
            "top1": row.get(f"{prefix_of(cell.role)}accuracy/top1"),
            "weights": row.get("weights"),
        },
        "chip": {"gpu": machine["gpu"], "cpu": machine["cpu"]["name"]},
        "versions": {"harness": machine["harness"], "git_sha": machine["git_sha"], **machine["packages"]},
    }


def _loader(cell: Cell, taken: TakenAway) -> str:
    """Return the loader: its engine's part, the router's, and the loop over the stages."""
    several = len(cell.artifacts) > 1
    parts = [
        (_TEXTS / "head.txt").read_text(encoding="utf-8").replace("{needs}", taken.needs).strip(),
        *([] if not several else [cell.router.loader.strip()]),
        loader_text(taken.loader).strip(),
        (_TEXTS / ("several_stages.txt" if several else "one_stage.txt")).read_text(encoding="utf-8").strip(),
        (_TEXTS / "tail.txt").read_text(encoding="utf-8").strip(),
    ]
    return "\n\n\n".join(parts) + "\n"
