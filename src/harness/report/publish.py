"""Put the report of a sweep into its parent run in MLflow: page, figures, the matrix as a table, a description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.choose import Limits
from harness.report.figures import pictures
from harness.report.figures.canvas import write_figures
from harness.report.findings import Findings, find
from harness.report.page import page
from harness.report.quartets import interval
from harness.report.questions import answers
from harness.report.study import Study
from harness.system.counts import counted
from harness.system.files import scratch_folder
from harness.tracking import NOTE_TAG, Store
from harness.tracking.store import scratch_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = "report.html"
TABLE = "matrix.json"  # MLflow shows a table logged as JSON with sorting, and beside those of other runs
MOST_ROWS = 30  # of the description's table; the artifact has all


def publish(store: Store, study: Study) -> None:
    """Log the report of a finished sweep. It replaces an earlier one of the same sweep."""
    findings = find(study, Limits())
    mlflow = store.client()
    drawn = pictures(findings)
    with scratch_folder(scratch_place(store)) as folder:
        (folder / PAGE).write_text(page(study, findings, drawn), encoding="utf-8")
        write_figures(folder / "figures", drawn.values())
        mlflow.log_artifacts(study.sweep_id, str(folder))
    _log_table(mlflow, study.sweep_id, findings)
    mlflow.set_tag(study.sweep_id, NOTE_TAG, description(findings))


def description(findings: Findings) -> str:
    """Return the Markdown of the parent run: the answers, and the factors."""
    lines = [f"**{quartet.question}** {' '.join(quartet.sentences)}\n" for quartet in answers(findings)]
    lines.append(f"| arch | hw | batch | factor | verdict after {findings.correction.title} correction |")
    lines.append("|---|---|---|---|---|")
    for quartet in findings.quartets[:MOST_ROWS]:
        shown = interval(quartet.factor) if quartet.factor else quartet.status
        batch = dict(quartet.setting).get("batch_size", "")
        cells = (quartet.arch_label, quartet.hw_label, batch, shown, quartet.verdict_adjusted or "-")
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    if len(findings.quartets) > MOST_ROWS:
        lines.append(f"\nIn {TABLE} and {PAGE}: {counted(len(findings.quartets) - MOST_ROWS, 'more quartet')}.")
    lines.append(f"\nArtifacts: `{PAGE}` (the whole report), `figures/`, `{TABLE}`.")
    return "\n".join(lines)


def matrix_columns(findings: Findings) -> dict[str, list[Any]]:
    """Return the columns of `matrix.json`, one value for each quartet that has a factor."""
    rows = [quartet for quartet in findings.quartets if quartet.factor]
    return {
        "arch": [quartet.arch_label for quartet in rows],
        "hw": ["+".join(quartet.hw) or "none" for quartet in rows],
        **{
            name: [dict(quartet.setting).get(name, "") for quartet in rows]
            for name in ("batch_size", "engine", "reference")
        },
        "hw_gain_of": [quartet.hw_label for quartet in rows],
        "factor": [quartet.factor.value for quartet in rows if quartet.factor],
        "low": [quartet.factor.low for quartet in rows if quartet.factor],
        "high": [quartet.factor.high for quartet in rows if quartet.factor],
        "verdict": [quartet.verdict for quartet in rows],
        findings.correction.tag: [quartet.verdict_adjusted for quartet in rows],
        **{
            f"gain_{key}": [quartet.gains.get(key) for quartet in rows]
            for key in ("arch", "hw", "expected", "combined")
        },
        "run": [quartet.run_id for quartet in rows],
    }


def _log_table(mlflow: MlflowClient, run_id: str, findings: Findings) -> None:
    columns = matrix_columns(findings)
    artifacts = {artifact.path for artifact in mlflow.list_artifacts(run_id)}
    if columns["run"] and TABLE not in artifacts:  # log_table appends to an existing one
        mlflow.log_table(run_id, columns, TABLE)


def _plain(text: str) -> str:
    """Return a value that can't break out of its table cell, nor become a link or markup."""
    for mark in "\\|`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
