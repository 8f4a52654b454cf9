"""The analysis of a study for a terminal: matrix, effects, predictions, best combination, answers."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from harness.report.findings import Findings, GridModel, Matrix
from harness.report.quartets import interval
from harness.report.questions import answers, describe
from harness.report.table import COLOURS
from harness.stats.factorial import AveragedEffect, Prediction
from harness.system.counts import counted
from harness.system.tables import new_table, print_fitting

MOST_LINES = 20  # of a list; the page has all of them


def print_findings(console: Console, findings: Findings) -> None:
    """Print what the quartets of a study say together."""
    for matrix in findings.matrices:
        _print_matrix(console, matrix, findings.correction.title)
    if findings.no_model:
        _say(console, f"\n{findings.no_model}")
    for model in findings.models:
        _print_model(console, model)
    front = findings.choice.front
    if front:
        _say(console, f"\nPareto front ({', '.join(findings.choice.objectives)}), fastest first:")
        _lines(console, [describe(candidate) for candidate in front])
    for answer in answers(findings):
        console.print(Text(f"\n{answer.question}", style="bold"))
        _say(console, " ".join(answer.sentences))


def _print_matrix(console: Console, matrix: Matrix, correction: str) -> None:
    _say(console, f"\nInteraction factors, arch x hw: {matrix.label}. Verdicts after {correction} correction.")
    table = new_table()
    table.add_column("", overflow="fold")
    for hw in matrix.hws:
        table.add_column(hw)
    for arch in matrix.archs:
        cells = []
        for hw in matrix.hws:
            text = Text()
            for quartet in matrix.places.get((arch, hw), ()):
                shown = interval(quartet.factor) if quartet.factor else quartet.status
                text.append(f"{shown} {quartet.verdict_adjusted}\n", style=COLOURS.get(quartet.verdict_adjusted, ""))
            text.rstrip()
            cells.append(text or Text("not run"))
        table.add_row(arch, *cells)
    print_fitting(console, [table])
    for arch, hw in matrix.missing:
        _say(console, f"  missing: {arch} x {hw} has no factor")


def _print_model(console: Console, model: GridModel) -> None:
    _say(
        console,
        f"\nLog-linear model over {counted(model.quartets, 'quartet')}: {model.label}. All other techniques off; "
        f"{model.level:.0%} intervals.",
    )
    singles, pairs, triples = model.explained
    _say(
        console,
        f"  variation explained: {singles:.1%} by single techniques, {pairs:.1%} with pairs, "
        f"{triples:.1%} with triples",
    )
    _lines(
        console,
        [
            f"{kind(effect.techniques)} {' x '.join(effect.techniques)}: {interval(effect.ratio)}"
            for effect in model.effects
        ],
    )
    for design in model.designs:
        if len(design.techniques) > 2:
            _say(console, f"  averaged over the 2^{len(design.techniques)} design of {', '.join(design.techniques)}:")
            _lines(console, [_averaged(effect) for effect in design.effects])
    if model.inseparable:
        _say(console, f"  can't be separated here: {', '.join(' x '.join(term) for term in model.inseparable)}")
    forecast = [prediction for prediction in model.predictions if prediction.measured is None]
    if forecast:
        _say(console, "  gains predicted for cells that were not run, from their parts:")
        _lines(console, [_predicted(prediction) + _taken(prediction) for prediction in forecast])
    tested = [prediction for prediction in model.predictions if prediction.measured is not None]
    if tested:
        _say(console, "  gains of measured cells, as their parts predict them:")
        _lines(console, [f"{_predicted(prediction)}, measured {prediction.measured:.3f}" for prediction in tested])


def _averaged(effect: AveragedEffect) -> str:
    return f"{' x '.join(effect.techniques)}: {interval(effect.ratio)}, {effect.share:.1%} of variation"


def _predicted(prediction: Prediction) -> str:
    return f"{' + '.join(prediction.techniques)}: {interval(prediction.predicted)}"


def _taken(prediction: Prediction) -> str:
    return (
        f", taking {', '.join(' x '.join(pair) for pair in prediction.assumed)} as multiplying"
        if prediction.assumed
        else ""
    )


def kind(techniques: tuple[str, ...]) -> str:
    """Return what an effect is called."""
    return {1: "gain", 2: "factor", 3: "third's change of a factor"}[len(techniques)]


def _lines(console: Console, lines: list[str]) -> None:
    for line in lines[:MOST_LINES]:
        _say(console, f"    {line}")
    if len(lines) > MOST_LINES:
        _say(console, f"    ... and {len(lines) - MOST_LINES} more (--html FILE has all)")


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)
