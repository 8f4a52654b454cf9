"""What is concluded from a study's rows, and what is said to be missing instead of made up."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pandas
import pytest
from rich.console import Console

from harness.report.choose import Limits
from harness.report.figures import pictures
from harness.report.findings import find
from harness.report.page import page
from harness.report.publish import description, matrix_columns
from harness.report.quartets import quartets
from harness.report.questions import answers
from harness.report.study import Study, open_study
from harness.report.text import print_findings
from harness.system.errors import UserError


@dataclass(frozen=True)
class NoFiles:
    def samples(self, run_id):
        return None

    def telemetry(self, run_id):
        return None

    def json(self, run_id, name):
        return {}


@pytest.fixture
def findings(frame):
    return lambda *rows: find(Study("study", frame(*rows), "", NoFiles()), Limits())


def test_a_failed_quartet_is_a_missing_place_with_its_reason(row, findings):
    found = findings(row(), row("grouped", "fp16", status="FAILED", error="out of memory"), row("low_rank", "fusion"))
    (matrix,) = found.matrices
    assert set(matrix.missing) == {("grouped", "fp16"), ("low_rank", "fp16")}
    assert [one.error for one in found.failed] == ["out of memory"]


def test_with_reference_eager_there_is_no_factorial_model_and_the_reason_is_told(row, findings):
    rows = [row(arch, hw, reference="eager") for arch in ("grouped", "low_rank") for hw in ("fp16", "fusion")]
    found = findings(*rows)
    assert found.models == ()
    assert "reference=engine" in found.no_model


def test_batches_are_models_of_their_own(row, findings):
    found = findings(*(row(arch, "fusion", batch=batch) for arch in ("grouped", "low_rank") for batch in (1, 8)))
    assert [dict(model.setting)["batch_size"] for model in found.models] == ["1", "8"]


def test_a_combination_that_was_not_run_is_listed_and_forecast(row, findings):
    (model,) = findings(row("grouped", "fusion"), row("low_rank", "fusion")).models
    assert ("fusion", "grouped", "low_rank") in model.not_run
    forecast = {one.techniques: one for one in model.predictions if one.measured is None}
    assert ("grouped", "low_rank") in forecast["fusion", "grouped", "low_rank"].assumed


def test_an_option_that_differs_makes_techniques_of_its_own_and_never_both_at_once(row, findings):
    rows = [row(f"{'grouped'}", "fusion", **{"run_id": groups, "arch.grouped.groups": groups}) for groups in ("2", "4")]
    (model,) = findings(*rows).models
    names = {name for effect in model.effects for name in effect.techniques}
    assert names == {"fusion", "grouped(groups=2)", "grouped(groups=4)"}
    assert not any({"grouped(groups=2)", "grouped(groups=4)"} <= set(cell) for cell in model.not_run)


def test_verdicts_are_adjusted_over_the_study_even_where_the_store_did_not(row, frame):
    rows = quartets(frame(*(row(f"a{n}", "fusion", **{"interaction/p_value": 0.03}) for n in range(5))))
    assert {one.verdict for one in rows} == {"conflict"}
    assert {one.verdict_adjusted for one in rows} == {"inconclusive"}
    assert all(one.p_adjusted == pytest.approx(0.15) for one in rows)


@pytest.mark.parametrize(("family", "title", "kept"), [("holm", "Holm", 0), ("bh", "Benjamini-Hochberg", 5)])
def test_the_corrections_name_is_wherever_its_verdicts_are(family, title, kept, row, findings, capsys):
    rows = [row(f"a{n}", "fusion", **{"interaction/p_value": 0.03, "protocol.family": family}) for n in range(5)]
    found = findings(*rows)
    assert found.verdicts(controls=False)["conflict"] == kept
    table = matrix_columns(found)
    assert table[f"verdict_{family}"].count("conflict") == kept
    assert [name for name in table if name.startswith("verdict_")] == [f"verdict_{family}"]
    print_findings(Console(width=140), found)
    told = (description(found), capsys.readouterr().out, page(Study("s", pandas.DataFrame(rows), "", NoFiles()), found))
    for text in told:
        assert f"{title} correction" in text
        assert [name for name in ("Holm", "Benjamini-Hochberg") if name in text] == [title]
    assert f"({title})" in pictures(found)["factors"].caption
    remarks = {remark for quartet in found.quartets for remark in quartet.remarks}
    assert remarks == (set() if kept else {f"conflict alone, not after {title} correction over the study"})


def test_over_eager_the_engine_is_named_beside_the_techniques_wherever_their_gain_is(row, findings, capsys):
    rows = [row(arch, "fp16+fusion", engine="inductor", reference="eager") for arch in ("grouped", "low_rank")]
    found = findings(*rows)
    (matrix,) = found.matrices
    assert matrix.hws == ("inductor + fp16 + fusion",)
    assert {quartet.name for quartet in found.quartets} == {
        "grouped x inductor + fp16 + fusion b4", "low_rank x inductor + fp16 + fusion b4",
    }  # fmt: skip
    table = matrix_columns(found)
    assert table["hw_gain_of"] == ["inductor + fp16 + fusion"] * 2 and table["hw"] == ["fp16+fusion"] * 2
    print_findings(Console(width=140), found)
    drawn = pictures(found)
    labels = [re.sub(r"\s+", " ", drawn[name].alt) for name in ("heatmap1", "factors", "gains")]
    shown = page(Study("s", pandas.DataFrame(rows), "", NoFiles()), found)
    for text in (description(found), capsys.readouterr().out, shown, *labels):
        assert "inductor + fp16 + fusion" in text.replace("inductor +\nfp16", "inductor + fp16")
        assert "grouped x fp16" not in text
    assert {"grouped + inductor + fp16 + fusion", "baseline (eager)"} <= {one.label for one in found.choice.candidates}


def test_over_the_engine_itself_a_technique_has_its_plain_name(row, findings):
    found = findings(row("grouped", "fp16+fusion", engine="inductor"), row("identity", "identity", engine="inductor"))
    assert found.matrices[0].hws == ("fp16+fusion", "identity")
    assert [quartet.name for quartet in found.quartets] == ["grouped x fp16+fusion b4", "identity x identity b4"]


def test_the_answers_name_the_strongest_interaction_and_the_choice(row, findings):
    told = " ".join(" ".join(one.sentences) for one in answers(findings(row(factor=0.8), row(hw="fp16", factor=0.7))))
    assert "strongest conflict is grouped x fp16" in told and "0.700" in told
    assert "The fastest measured cell is grouped + fusion" in told


def test_without_real_techniques_nothing_is_concluded(row, findings):
    told = " ".join(" ".join(one.sentences) for one in answers(findings(row("identity", "identity", factor=1.0))))
    assert "No quartet of two real techniques was measured" in told and "none to choose" in told


def test_a_folder_gives_what_the_store_would(row, folder):
    study = open_study(str(folder("one", row())))
    (one,) = quartets(study.frame)
    assert dict(one.setting)["batch_size"] == "4"
    assert math.isclose(one.factor.value, 0.8)
    assert len(study.files.samples(one.run_id)) == 4 * 30 * 4


def test_a_folder_that_is_not_a_study_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no results\.csv"):
        open_study(str(tmp_path))
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="lacks the column 'run_id'"):
        open_study(str(tmp_path))
