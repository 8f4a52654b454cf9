"""Names of sweeps: plain ones pass, none leads to another folder or writes on somebody's terminal."""

from __future__ import annotations

import pytest

from harness.sweep.checks import check_sweep_name
from harness.sweep.main import main
from harness.system.errors import UserError


@pytest.mark.parametrize("name", [None, "demo", "early_exit x fp16, b32", "2026-11-25 (second)", "Prüfung", "a[b]"])
def test_a_plain_name_passes(name):
    check_sweep_name(name)


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", " ", "a\nb", "a\0b", "\x1b[2Jgone",
             "right\u202eleft", "x" * 201],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_writes_on_a_terminal_is_refused(name):
    with pytest.raises(UserError) as caught:
        check_sweep_name(name)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith("sweep_name=")


def test_it_is_refused_on_the_command_line_before_anything_is_created(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["model=densenet_tiny", "sweep_name='../evil'"]) == 2
    assert "is not a plain name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
