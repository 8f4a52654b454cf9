"""What a sweep commits itself to before its first block: written into its parent run, so that nothing is chosen later.

A margin, a target or a family that is picked when the numbers are known makes any verdict possible. So the parent run
has them as params, which MLflow lets nobody change, and the plan of all quartets as a file with its SHA-256 as a param.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.measure.cell import QuartetPlan
from harness.measure.stopping import family_level
from harness.sweep.job import PlannedJob
from harness.sweep.scenarios import scenario_of
from harness.tracking import Store
from harness.tracking.runs import log_text, start_sweep

FILE = "plan.json"
COMMITTED = ("margin", "level", "family", "half_width")  # of the protocol: params of the parent run


def begin_sweep(
    store: Store, name: str, tags: Mapping[str, Any], jobs: Sequence[PlannedJob], keys: Sequence[str]
) -> str:
    """Start the parent run of a sweep with its plan in it; return its id. `keys`: of the quartets, by job."""
    text = plan_text([job.plan for job in jobs], keys)
    sweep_id = start_sweep(store, name, tags, {"jobs": len(jobs), **commitments([job.plan for job in jobs], text)})
    log_text(store, sweep_id, FILE, text)
    return sweep_id


def commitments(plans: Sequence[QuartetPlan], text: str) -> dict[str, str]:
    """Return the params: the values of all quartets, most often one each, and the SHA-256 of the plan's text."""
    protocols = [plan.config.protocol for plan in plans]
    params = {
        f"protocol.{name}": ", ".join(dict.fromkeys(str(getattr(protocol, name)) for protocol in protocols))
        for name in COMMITTED
    }
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {**params, "decision_level": f"{_decision_level(plans):.6g}", "plan_sha256": digest}


def plan_text(plans: Sequence[QuartetPlan], keys: Sequence[str]) -> str:
    """Return the plan as JSON: what each quartet is, on which boundary it is judged, its protocol and its key."""
    quartets = [_described(plan, key) for plan, key in zip(plans, keys, strict=True)]
    return json.dumps({"decision_level": _decision_level(plans), "quartets": quartets}, indent=1, sort_keys=True) + "\n"


def _decision_level(plans: Sequence[QuartetPlan]) -> float:
    """Return the level of the interval that ends a quartet of this sweep."""
    protocol = plans[0].config.protocol
    return family_level(protocol.level, len(plans) if protocol.family == "holm" else 1)


def _described(plan: QuartetPlan, key: str) -> dict[str, Any]:
    config = plan.config
    load = scenario_of(config).params(config)
    return {
        "quartet": plan.label,
        "model": config.model.name,
        "batch_size": config.batch_size,
        "engine": plan.engine,
        "reference": config.reference,
        "boundary": plan.primary,
        "protocol": asdict(config.protocol),
        "quartet_key": key,
        **load,
    }
