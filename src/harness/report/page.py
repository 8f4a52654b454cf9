"""The page: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import __version__
from harness.report.compare import Comparison, Gate, is_changed, judge, unpaired
from harness.report.figures import MOST_QUARTETS, latencies, pictures, stages, telemetry
from harness.report.figures.canvas import Picture
from harness.report.findings import Findings
from harness.report.quartets import QuartetRow, ends_of, half_width_of, interval
from harness.report.questions import answers, describe
from harness.report.study import Study
from harness.results.metrics import declared
from harness.results.units import counted_in, shared_unit, unit_of_throughput
from harness.results.why import holds_one, without_cause
from harness.stats.factorial import Ratio
from harness.stats.roles import ROLES
from harness.system.counts import counted, limits
from harness.system.errors import UserError
from harness.system.files import write_whole

_TEMPLATES = Path(__file__).parent / "templates"


def page(study: Study, findings: Findings, drawn: Mapping[str, Picture] | None = None) -> str:
    """Return the page of a study. `drawn`: the pictures of `pictures(findings)` where they were drawn already."""
    latency_pictures = dict(latencies(study, findings))
    factors = {quartet.run_id: quartet.factor for quartet in findings.quartets}
    parts = {run_id: (picture, _pieces(why, factors[run_id])) for run_id, picture, why in stages(study, findings)}
    first = next((quartet for quartet in findings.quartets if quartet.status == "FINISHED"), None)
    machine = study.files.json(first.run_id, "environment.json") if first else {}
    readings = telemetry(study, findings)
    return _rendered(
        "page.html",
        study=study,
        findings=findings,
        answers=answers(findings),
        describe=describe,
        pictures=dict(drawn) if drawn is not None else pictures(findings),
        latencies=latency_pictures,
        stages=parts,
        most_quartets=MOST_QUARTETS,
        telemetry=readings,
        quartets=[_shown(quartet) for quartet in findings.quartets],
        summary=_summary(findings),
        environment=list(_flat(machine)),
        commits=_distinct(findings, "git_sha"),
        version=__version__,
    )


def comparison_page(found: Comparison, pictures: Sequence[Picture], gate: Gate | None = None) -> str:
    """Return the page of a comparison, with what a gate says of it."""
    compared = [cell for cell in found.cells if cell.ratio is not None]
    judgement = None if gate is None else judge(found, gate)
    tile = None
    if gate is not None and judgement is not None:
        said = "failed" if judgement.failed else "undecided" if judgement.undecided else "passed"
        tile = (said, f"gate slower:{100 * gate.slower:g}%", (*judgement.failed, *judgement.undecided))
    return _rendered(
        "comparison.html",
        found=found,
        compared=compared,
        changed=[cell for cell in compared if cell.ratio is not None and is_changed(cell.ratio)],
        gate=tile,
        pictures=pictures,
        unit=shared_unit(cell.unit for cell in found.cells),
        lists=unpaired(found),
        version=__version__,
    )


def _rendered(name: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # every value: run names and parameters are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ratio": interval, "percent": _percent, "counted": counted, "limits": _limits}
    text: str = environment.get_template(name).render(style=(_TEMPLATES / "page.css").read_text(), **values)
    return text


def write_page(path: Path, text: str) -> None:
    """Write the page in one step.

    Raises:
        UserError: it can't be written there.

    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose another place for the page.") from error


def _shown(quartet: QuartetRow) -> dict[str, Any]:
    """Return a quartet with the table of its cells, without columns that nobody measured."""
    headings, rows = cell_table(quartet)
    return {
        "quartet": quartet,
        "headings": headings,
        "rows": rows,
        "strategy": str(quartet.row.get("strategy") or ""),
        "why": without_cause(str(quartet.row.get("why") or ""), *ends_of(quartet.row)),
        "reason": str(quartet.row.get("reason") or ""),
        "setting": quartet.setting,
        "blocks": quartet.row.get("measure/blocks"),
        "restarts": quartet.row.get("measure/restarts"),
        "carry_over": _carry_over(quartet),
        "coursework": (quartet.row.get("coursework/factor"), str(quartet.row.get("coursework_verdict") or "")),
        "opens": bool(rows),
    }


def _carry_over(quartet: QuartetRow) -> tuple[float, float] | None:
    """Return F of the predecessor and its p-value; None where they are not known, as in studies of before."""
    found = [quartet.row.get(f"measure/carry_over_{name}") for name in ("f", "p")]
    f, p = (float("nan") if value is None else float(value) for value in found)
    return (f, p) if math.isfinite(f) and math.isfinite(p) else None


def cell_table(quartet: QuartetRow) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return headings and rows of the cells' table: the metrics that are declared with a heading and were measured."""
    roles = [role for role in ROLES if role in quartet.cells]
    headings, columns = [], []
    if roles:
        headings.append(unit_of_throughput(quartet.row))
        columns.append([f"{quartet.cells[role].throughput_ips:,.1f}" for role in roles])
    for metric in declared():
        if metric.column is None or not metric.column.heading:
            continue
        for name in metric.names:
            values = [quartet.cells[role].metrics.get(name) for role in roles]
            if any(value is not None for value in values):
                headings.append(counted_in(quartet.row, metric.column.heading))
                columns.append(["-" if value is None else format(value, metric.column.shown_as) for value in values])
    return headings, [(role, [column[n] for column in columns]) for n, role in enumerate(roles)]


def _pieces(why: Mapping[str, Any], factor: Ratio | None) -> list[tuple[str, str, float, bool]]:
    """Return what the factor is the product of; nothing where its interval holds 1: then there is nothing to explain.

    Of each: name, factor, the share of a bar that shows its size, whether that is more than the interval's half-width.
    """
    if factor is None or holds_one(factor.low, factor.high):
        return []
    half_width = half_width_of(factor)
    log_parts = why["log_parts"]
    names = [name for name in why["part_ms"] if name in log_parts]  # in the network's order
    ordered = {name: log_parts[name] for name in (*names, *(name for name in log_parts if name not in names))}
    logs = {"host": why["log_host"], "pure stage-wise scaling (Amdahl)": why["log_amdahl"], **ordered}
    most = max((abs(value) for value in logs.values()), default=0.0) or 1.0
    return [
        (name, f"{math.exp(value):.3f}", abs(value) / most, abs(value) > half_width) for name, value in logs.items()
    ]


def _summary(findings: Findings) -> list[tuple[str, str]]:
    """Return the tiles at the top: a number and what it counts."""
    real = findings.verdicts(controls=False)
    number, noun = counted(len(findings.quartets), "quartet").split()
    out = [(number, noun)]
    out += [(str(real[verdict]), verdict) for verdict in ("amplify", "conflict", "independent", "inconclusive")
            if real[verdict]]  # fmt: skip
    controls = findings.verdicts(controls=True)
    if controls:
        false = controls["amplify"] + controls["conflict"]
        out.append((f"{false} of {sum(controls.values())}", "A/A controls with a false verdict"))
    if findings.failed:
        out.append((str(len(findings.failed)), "failed"))
    if findings.choice.best is not None and real:
        out.append(
            (
                f"{findings.choice.best.throughput_ips:,.0f}",
                f"{findings.choice.best.unit}: {findings.choice.best.label}",
            )
        )
    return out


def _flat(values: Mapping[str, Any], prefix: str = "") -> Any:
    """Give the leaves of nested mappings, with their path as name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}".replace("_", " "), "none" if value is None else str(value)


def _distinct(findings: Findings, name: str) -> list[str]:
    return list(dict.fromkeys(str(quartet.row[name]) for quartet in findings.quartets if quartet.row.get(name)))


def _limits(ratio: Ratio) -> str:
    return limits(ratio.low, ratio.high)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
