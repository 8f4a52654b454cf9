"""Committed studies: a clone stays small, figures are drawn as SVG from data, and pages are made from it when asked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from harness.report.choose import Limits
from harness.report.findings import find
from harness.report.study import open_study

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))  # the studies' scripts are no package

import pages  # noqa: E402

MOST_BYTES, MOST_BYTES_A_FIGURE, MOST_BYTES_OF_TIMINGS = 8_000_000, 200_000, 4_000_000
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf"}


def tracked(repository: Path) -> list[Path]:
    """Return the files that git tracks, as they lie in the working tree; skip where this is no checkout."""
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=repository, capture_output=True, text=True, check=True
        )
        names = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here, or no checkout")
    if Path(top.stdout.strip()).resolve() != repository.resolve():
        pytest.skip("unpacked inside another repository")
    paths = (repository / name for name in names.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def too_heavy(files: list[Path], experiments: Path) -> list[str]:
    """Return what of these files a light repository would not have."""
    of_studies = [path for path in files if path.is_relative_to(experiments)]
    out = [f"{path.name}: a page" for path in files if path.name == "report.html"]
    out += [f"{path.name}: not an SVG" for path in of_studies if path.suffix.lower() in PICTURES]
    out += [
        f"{path.name}: {path.stat().st_size} bytes"
        for path in of_studies
        if path.suffix == ".svg" and path.stat().st_size > MOST_BYTES_A_FIGURE
    ]
    timings = [path for path in of_studies if path.name.endswith(".timing.xz")]  # what a build need not time again
    for name, files, most in (
        ("experiments/", set(of_studies) - set(timings), MOST_BYTES),
        ("timing caches", timings, MOST_BYTES_OF_TIMINGS),
    ):
        total = sum(path.stat().st_size for path in files)
        out += [f"{name}: {total} bytes"] if total > most else []
    return out


def test_no_page_is_committed_and_the_studies_are_small(repository):
    files = tracked(repository)
    assert len([path for path in files if path.suffix == ".svg"]) > 40
    assert too_heavy(files, EXPERIMENTS) == []


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("experiments/one/figure.svg", MOST_BYTES_A_FIGURE, []),
        ("experiments/one/figure.svg", MOST_BYTES_A_FIGURE + 1, [f"figure.svg: {MOST_BYTES_A_FIGURE + 1} bytes"]),
        ("experiments/one/figure.PNG", 1, ["figure.PNG: not an SVG"]),
        ("docs/images/view.png", 1, []),
        ("experiments/one/report.html", 1, ["report.html: a page"]),
        ("experiments/one/samples.parquet", MOST_BYTES, []),
        ("experiments/one/samples.parquet", MOST_BYTES + 1, [f"experiments/: {MOST_BYTES + 1} bytes"]),
        ("experiments/one/H200.timing.xz", MOST_BYTES_OF_TIMINGS, []),
        ("experiments/one/H200.timing.xz", MOST_BYTES_OF_TIMINGS + 1, ["timing caches: 4000001 bytes"]),
    ],
)
def test_the_search_finds_what_it_is_for(tmp_path, name, size, found):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * size)
    assert too_heavy([path], tmp_path / "experiments") == found


def test_outside_a_checkout_nothing_is_asked(tmp_path):
    with pytest.raises(pytest.skip.Exception):
        tracked(tmp_path)


def test_every_table_of_quartets_can_be_reported_on():
    quartets, others = pages.studies(EXPERIMENTS)
    assert len(quartets) > 30 and EXPERIMENTS / "calibration" in others
    for folder in quartets:
        findings = find(open_study(str(folder)), Limits())
        assert findings.quartets and findings.name == folder.relative_to(EXPERIMENTS).as_posix()


def test_a_page_that_cannot_be_made_is_told_by_the_status_and_the_others_are_made(tmp_path, monkeypatch, capsys):
    root = tmp_path / "experiments"
    bad, good, other = (root / name for name in ("bad", "good", "other"))
    for folder, table in ((bad, "run_id,run_name\n1,one\n"), (other, "what,value\n")):
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(table)
    shutil.copytree(EXPERIMENTS / "densenet121_h100" / "tf32_b256", good)
    assert pages.studies(root) == ([bad, good], [other])
    monkeypatch.setattr(pages, "EXPERIMENTS", root)
    monkeypatch.setattr(sys, "argv", ["pages.py", "--out", str(tmp_path / "pages")])
    assert pages.main() == 1
    told = capsys.readouterr()
    assert "bad/results.csv is not a table of quartets: it lacks the column 'status'" in told.err
    assert told.out.startswith(f"{tmp_path}/pages/good.html\n1 pages.") and told.out.endswith("\nother\n")
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["good.html"]
    assert "<h1>good</h1>" in (tmp_path / "pages" / "good.html").read_text()


def run(script, *arguments):
    command = [sys.executable, str(EXPERIMENTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@pytest.mark.minutes
def test_every_committed_study_gives_its_page(tmp_path):
    done = run("pages.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("*.html"))) == len(pages.studies(EXPERIMENTS)[0])


def test_a_figure_of_the_same_data_has_the_same_bytes(tmp_path):
    once, again = tmp_path / "once.svg", tmp_path / "again.svg"
    for path in (once, again):
        assert run("study_figure.py", EXPERIMENTS / "densenet121_h100" / "first_pieces", "--out", path).returncode == 0
    assert once.read_bytes() == again.read_bytes()
    assert "<dc:date>" not in once.read_text()


def test_a_study_has_no_figure_of_another_kind(tmp_path):
    done = run("study_figure.py", EXPERIMENTS / "densenet121_h100" / "first_pieces", "--out", tmp_path / "figure.png")
    assert done.returncode == 2 and "SVG" in done.stderr


# Tables made of other data than tables of numbers: traces, text files, medians of several runs.
NOT_FROM_TABLES = {"agreement", "page_faults", "serving_h100"}
_FACTOR = re.compile(r"(\d\.\d{3})\*{0,2} \[(\d+\.\d{3}), (\d+\.\d{3})\]")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")


def not_in_the_data(study: Path) -> list[str]:
    """Return what the tables of a study's README say that none of its CSV files holds: factors, numbers from 1,000."""
    factors, numbers = set(), set()
    for file in study.rglob("*.csv"):
        table = pandas.read_csv(file)
        for column in table.select_dtypes("number"):
            numbers |= {f"{value:,.0f}" for value in table[column].dropna()}
            name = column.removesuffix("factor") if column.startswith("interaction/") else "ratio"
            names = [column, f"{name}low", f"{name}high"] if name != "ratio" else ["ratio", "ratio_low", "ratio_high"]
            if set(names) <= set(table):
                factors |= {tuple(f"{value:.3f}" for value in row) for row in table[names].to_numpy()}
    rows = [line for line in (study / "README.md").read_text().splitlines() if line.startswith("|")]
    said = [text for row in rows for text in _FACTOR.findall(row)]
    return [f"{text}" for text in said if text not in factors] + [
        text for row in rows for text in _THOUSANDS.findall(row) if text not in numbers
    ]


@pytest.mark.parametrize("study", sorted({path.parent.name for path in EXPERIMENTS.glob("*/README.md")}))
def test_the_tables_of_a_readme_are_in_its_data(study):
    if study in NOT_FROM_TABLES:
        pytest.skip("made of other files than tables")
    assert not_in_the_data(EXPERIMENTS / study) == []


def test_a_wrong_number_in_a_readme_is_found(tmp_path):
    source = EXPERIMENTS / "densenet121_tensorrt"
    shutil.copytree(source, tmp_path / "study")
    page = tmp_path / "study" / "README.md"
    page.write_text(
        page.read_text().replace("13,996", "13,997").replace("0.822 [0.821, 0.823]", "0.832 [0.821, 0.823]")
    )
    assert not_in_the_data(tmp_path / "study") == ["('0.832', '0.821', '0.823')", "13,997"]
