"""The row of one quartet: params, metrics, tags and artifacts under the contract's names, its files in a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pandas

from harness.config import HarnessConfig
from harness.measure.cell import Cell, CellResult, QuartetPlan
from harness.measure.protocol import Measurement
from harness.measure.telemetry import Telemetry
from harness.networks import spec
from harness.results.accuracy import COLLAPSE, answer_metrics, answer_table, skipped_list, skipped_note
from harness.results.analyse import Analysis
from harness.results.cells import (
    calibration_notes,
    cell_details,
    clock_metrics,
    consumption_metrics,
    cost_metrics,
    degraded,
    fidelity_metrics,
    inspections,
    roofline_metrics,
)
from harness.results.estimand import label_in_words, plan_hw_in_words
from harness.results.figures import draw_lines, draw_quartet
from harness.results.headline import Headline
from harness.results.roofline import machine_metrics
from harness.results.row import RowDraft
from harness.results.units import SAMPLE
from harness.results.why import Why, ceiling_shares, clocks_mhz, explain
from harness.results.why import details as why_details
from harness.stats import Interaction
from harness.stats.roles import prefix_of
from harness.system.counts import limits
from harness.techniques import arch, hw
from harness.techniques.arch.recipe import Recipe
from harness.techniques.finetuned import not_finetuned, untrained, weights_of

NO_VNNI = "int8: this processor has no products of eight bits (VNNI); its kernels are slower ones that don't saturate"
LINES = "figures/lines.png"  # fills what MLflow's page shows of a description before it folds it


class Measured(Protocol):
    """What every scenario's measurement has."""

    @property
    def cells(self) -> Mapping[str, CellResult]:
        """What was measured on each cell, by role."""

    @property
    def telemetry(self) -> Telemetry | None:
        """What the machine did meanwhile."""

    @property
    def note(self) -> str:
        """What a reader of the result must know."""


def begin_row(plan: QuartetPlan, cells: Mapping[str, Cell], folder: Path) -> RowDraft:
    """Begin a row with what was built; its files are written below `folder`."""
    row = RowDraft(folder)
    for role, cell in cells.items():
        row.metrics |= cost_metrics(prefix_of(role), cell, plan.config.batch_size)
        row.metrics |= roofline_metrics(role, cell, plan.config.batch_size)
    row.metrics["build/cache_hit"] = float(all(cell.cache_hit for cell in cells.values()))
    row.tags["engine_version"] = cells[plan.cells[-1].role].artifacts[0].engine_version
    row.tags["degraded"] = "; ".join(degraded(cells, {}))
    row.tags[SAMPLE] = next(iter(cells.values())).sample
    row.details["quartet"] = plan.label
    row.details["cells"] = {role: cell_details(cell) for role, cell in cells.items()}
    row.artifacts |= inspections(cells)
    row.notes += calibration_notes(cells)
    data = next(iter(cells.values())).labelled
    if data is not None and (note := skipped_note(data)):
        row.notes.append(note)
        row.file("skipped_images.txt").write_text(skipped_list(data))
    return row


def add_measured(
    row: RowDraft, plan: QuartetPlan, cells: Mapping[str, Cell], measurement: Measured, analysis: Analysis
) -> None:
    """Add what every scenario measures: its numbers, how true the cells were, and the verdict where there is one."""
    row.metrics |= {**fidelity_metrics(measurement.cells), **analysis.metrics}
    row.tags |= {"boundary": analysis.primary, **analysis.tags}
    if analysis.host_bound is not None:
        row.tags["host_bound"] = str(analysis.host_bound).lower()
    row.tags["degraded"] = "; ".join(degraded(cells, measurement.cells))
    row.notes.insert(0, measurement.note)
    row.details["interaction"] = {name: asdict(found) for name, found in analysis.interactions.items()}
    for role, found in measurement.cells.items():
        row.metrics[f"{prefix_of(role)}build/load_s"] = found.loaded.seconds
        row.details["cells"][role] |= {"loaded": asdict(found.loaded), "fidelity": asdict(found.fidelity)}
    if any(found.loaded.proof.get("vnni") == 0 for found in measurement.cells.values()):
        row.notes.append(NO_VNNI)
    if measurement.telemetry is not None:
        row.table("telemetry.parquet", pandas.DataFrame(measurement.telemetry.rows))
    if analysis.verdict:
        _add_verdict(row, plan, analysis)


def add_blocks(
    row: RowDraft, plan: QuartetPlan, cells: Mapping[str, Cell], measurement: Measurement, analysis: Analysis
) -> None:
    """Add what timed blocks give beside the factor: samples, consumption, answers, roofline, and what explains it."""
    row.metrics |= {**consumption_metrics(measurement.cells), **machine_metrics(measurement.ceilings)}
    row.metrics |= clock_metrics(measurement.telemetry, cells)
    for role, cell in cells.items():
        row.metrics |= roofline_metrics(role, cell, plan.config.batch_size, measurement, analysis)
        warmup = measurement.cells[role].warmup
        row.details["cells"][role]["warmup"] = asdict(warmup) if warmup is not None else None
    row.tags["converged"] = str(measurement.converged).lower()
    if analysis.coursework:
        row.metrics["coursework/factor"] = analysis.coursework["factor"]
        row.tags["coursework_verdict"] = analysis.coursework["verdict"]
    row.notes.append(_thinned(measurement))
    row.details |= {
        "coursework": analysis.coursework,
        "coursework_ms": {
            role: list(found.coursework_ms) for role, found in measurement.cells.items() if found.coursework_ms
        },
        "standing": asdict(measurement.standing),
    }
    row.artifacts |= {path.name: path for path in measurement.samples.write(row.folder / "samples.parquet")}
    _add_answers(row, plan, cells, measurement)
    why = _why(plan, measurement, analysis, row.metrics)
    if why is not None:
        _add_why(row, why)


def _add_answers(row: RowDraft, plan: QuartetPlan, cells: Mapping[str, Cell], measurement: Measurement) -> None:
    """Add what the cells answered on labelled images, where there are any."""
    data = next(iter(cells.values())).labelled
    answers = {role: found.answers for role, found in measurement.cells.items() if found.answers is not None}
    if data is not None and len(answers) == len(cells):
        untrained, notes = _trained(cells)
        row.metrics |= answer_metrics(answers, data, plan.config.protocol.level, untrained)
        row.tags["untrained"] = _by_reason(untrained)
        row.notes += [f"accuracy {note}" for note in notes]
        if any(not cells[role].router.counts_are_known for role in untrained):
            row.notes.append("an untrained head decided which images leave early")
        row.table("answers.parquet", answer_table(answers, data))
        if (lost := row.metrics.get("accuracy/drop", 0.0)) > COLLAPSE:
            advice = f"Don't use {plan.label} as it is: {lost:.0%} of the test images are lost against the baseline."
            row.tags["strategy"] = f"{advice} {row.tags.get('strategy', '')}".rstrip()
            row.description = f"{advice}\n\n{row.description}".rstrip()
    if any(cell.own_inputs is not None for cell in cells.values()):
        row.notes.append(f"no accuracy: {plan.config.model.name} says by `inputs` what it takes, which has no labels")


def _trained(cells: Mapping[str, Cell]) -> tuple[dict[str, str], list[str]]:
    """Return by role why cells have untrained weights, and what to know of the accuracy of the others."""
    untrained_, notes = {}, []
    for role, cell in cells.items():
        recipe = Recipe.from_json(json.dumps(json.loads(cell.recipe)["recipe"]))
        made_from = (recipe.model, recipe.arch, recipe.checkpoint)
        if reason := untrained(*made_from):
            untrained_[role] = reason
        elif note := not_finetuned(*made_from):
            notes.append(note)
    return untrained_, list(dict.fromkeys(notes))


def _by_reason(reasons: Mapping[str, str]) -> str:
    """Return the reasons of cells as one text: "arch, combined: ...; baseline: ..."."""
    roles = {reason: [role for role in reasons if reasons[role] == reason] for reason in reasons.values()}
    return "; ".join(f"{', '.join(of)}: {reason}" for reason, of in roles.items())


def _add_verdict(row: RowDraft, plan: QuartetPlan, analysis: Analysis) -> None:
    row.tags["verdict"] = analysis.verdict
    found = analysis.interactions[analysis.primary]
    row.tags["reason"] = found.reason
    if found.unstationary:
        row.tags["unstationary"] = found.unstationary
    row.tags["strategy"] = strategy(plan, analysis)
    headline = Headline(
        "+".join(plan.arch) or "none", plan_hw_in_words(plan), found.gains, found.low, found.high, str(found.verdict),
        degraded=bool(row.tags["degraded"]),
    )  # fmt: skip
    row.description = description_of(headline)
    draw_lines(headline, row.file(LINES))
    label = f"{label_in_words(plan)}, {plan.config.model.name}, batch {plan.config.batch_size}"
    draw_quartet(analysis, headline, label, row.file("figures/quartet.png"))


def description_of(headline: Headline) -> str:
    """Return what a quartet's page in MLflow begins with: the sentence and its figure, as high as is shown unfolded.

    Advice and reasons stand in the tags `strategy` and `why` on the same page.
    """
    return f"**{headline.sentence}**  \n![its four bars]({LINES})"


def _add_why(row: RowDraft, why: Why) -> None:
    """Add where the factor comes from."""
    row.tags["why"] = " ".join(why.sentences)
    row.details["why"] = why_details(why)
    row.metrics["why/amdahl_factor"] = why.stagewise.amdahl_factor
    row.metrics["why/host_factor"] = math.exp(why.stagewise.host)
    if why.clock_factor is not None:
        row.metrics["why/clock_factor"] = why.clock_factor
    row.metrics["why/attributed"] = min(profile.attributed for profile in why.profiles.values())


def _why(plan: QuartetPlan, measurement: Measurement, analysis: Analysis, metrics: Mapping[str, float]) -> Why | None:
    """Return what the profiles say of the factor on the primary boundary."""
    speeds = {
        boundary: {
            role: analysis.metrics[f"{prefix_of(role)}throughput/{boundary}"] for role in measurement.samples.roles
        }
        for boundary in measurement.samples.boundaries
    }
    found = analysis.interactions
    if not found:  # fewer than four cells: there is no factor to explain
        return None
    on_wall = None
    if analysis.primary == "device" and {"device", "wall"} <= set(found):
        on_wall = math.log(found["wall"].factor / found["device"].factor)
    return explain(
        {role: cell.profile for role, cell in measurement.cells.items() if cell.profile is not None},
        speeds[analysis.primary],
        speeds.get("device"),
        analysis.primary,
        plan.config.batch_size,
        on_wall,
        half_width=_half_width(found[analysis.primary]),
        established=analysis.verdict not in (None, "inconclusive"),
        ceiling_shares=ceiling_shares(metrics, {role: prefix_of(role) for role in measurement.samples.roles}),
        clocks_mhz=clocks_mhz(metrics, {role: prefix_of(role) for role in measurement.samples.roles}),
    )


def _half_width(found: Interaction) -> float:
    """Return that of ln(factor), infinite where the interval has no end."""
    return math.log(found.high / found.low) / 2 if found.low > 0 and math.isfinite(found.high) else math.inf


def _thinned(measurement: Measurement) -> str:
    every = measurement.samples.kept_every
    return f"samples.parquet holds every {every}th iteration, visits.parquet the sums of all" if every > 1 else ""


def strategy(plan: QuartetPlan, analysis: Analysis) -> str:
    """Return what to do with this pair, from its gains and verdict; every number in it is logged beside it."""
    found = analysis.interactions[analysis.primary]
    gains = found.gains
    arch, hw = "+".join(plan.arch), plan_hw_in_words(plan)
    singles = {arch: gains.arch, hw: gains.hw}
    better = max(singles, key=lambda name: singles[name])
    worse = arch if better == hw else hw
    numbers = (
        f"Measured {gains.combined:.2f}x together against {gains.expected:.2f}x expected "
        f"({arch} {gains.arch:.2f}x, {hw} {gains.hw:.2f}x; "
        f"factor {found.factor:.3f} {limits(found.low, found.high)})."
    )
    verdict = str(found.verdict)
    if plan.arch == plan.hw == ("identity",):
        return f"A/A control: nothing was changed, so every gain and the factor should be 1. {numbers}"
    if gains.combined <= 1 and verdict != "inconclusive":
        advice = f"Use neither together: the pair is no faster than the baseline ({verdict})."
    elif gains.combined <= singles[better] and verdict != "inconclusive":
        advice = f"Use {better} alone: adding {worse} makes it no faster ({verdict})."
    elif verdict == "amplify":
        advice = f"Use {arch} and {hw} together: each makes the other worth more."
    elif verdict == "conflict":
        advice = f"Use both only if what {worse} adds is worth its cost: they share a bottleneck."
    elif verdict == "independent":
        advice = f"Choose {arch} and {hw} each on its own merit: their gains multiply."
    else:
        reason, _, needed = found.reason.rpartition(": measure ")
        needed, reason = (needed, reason) if reason else ("longer", found.reason)
        advice = f"Measure {needed} before deciding ({reason})."
    return f"{advice} {numbers}"


def params(plan: QuartetPlan) -> dict[str, Any]:
    """Return what was requested: the axes of the grid and the options of the techniques that are on."""
    config = plan.config
    return {
        "model": config.model.name,
        "arch": "+".join(plan.arch) or "none",
        "hw": "+".join(plan.hw) or "none",
        "batch_size": config.batch_size,
        "engine": plan.engine,
        "reference": config.reference,
        "scenario": config.scenario.name,
        "precision": plan.cells[-1].levels.precision.under_policy(config.precision.tf32).name,
        **_origins(config),
        **({"image_size": config.model.image_size} if spec(config.model.name).inputs is None else {}),
        **arch.flat_options(config.arch),
        **hw.flat_options(config.hw),
        **{f"protocol.{name}": value for name, value in asdict(config.protocol).items()},
    }


def _origins(config: HarnessConfig) -> dict[str, Any]:
    """Return what was measured on: the weights of the model and of its changed form, and the images."""
    found = weights_of(config, config.arch)
    out: dict[str, Any] = {
        "weights": found.model.weights or f"random (seed {config.model.seed})",
        "data": config.data.name if config.data.path is None else f"{config.data.name} {config.data.path}",
    }
    if found.checkpoint is not None:
        out["arch_weights"] = found.checkpoint
    return out
