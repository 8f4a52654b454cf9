"""`python -m harness.ui` refuses in one line; the browser tests show it at work."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.commands import ui
from harness.system.errors import UserError


@pytest.fixture
def busy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_without_a_store_there_is_one_line_and_status_2(fresh, capsys):
    assert ui.main(["--root", fresh.root, "--no-browser"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nothing measured yet: run `make demo`" in captured.err
    assert captured.err.count("\n") == 1
    assert not Path(fresh.root).exists()


def test_an_asked_port_that_is_busy_is_refused_with_a_proposal(store, tracking, busy, capsys):
    assert ui.main(["--root", tracking.root, "--port", str(busy), "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert f"port {busy} is busy" in error
    assert "--port" in error
    assert error.count("\n") == 1


def test_without_an_asked_port_the_next_free_one_is_taken(busy, monkeypatch, capsys):
    monkeypatch.setattr(ui, "DEFAULT_PORT", busy)
    assert ui._free_port("127.0.0.1", None) > busy
    assert f"Port {busy} is busy" in capsys.readouterr().out


def test_a_host_that_is_not_here_is_refused():
    with pytest.raises(UserError, match="--host"):
        ui._free_port("192.0.2.1", None)


def test_a_server_that_does_not_start_says_why_and_leaves_no_process(store):
    broken = ui.Store("nonsense://x", store.experiment_id, store.experiment, None)
    with pytest.raises(UserError, match=r"did not start: .*nonsense"), ui._server(broken, "127.0.0.1", 1):
        pytest.fail("it must not start")


def test_a_stores_password_is_not_among_the_servers_arguments_which_everybody_sees(store, monkeypatch):
    started = []
    monkeypatch.setattr(ui, "start_guarded", lambda *given, **_: started.append(given) or sys.exit())
    secret = ui.Store("postgresql://me:ca/n@ry@host/db", store.experiment_id, store.experiment, None)
    with pytest.raises(SystemExit), ui._server(secret, "127.0.0.1", 1):
        pytest.fail("it must not start")
    assert started and "ry@host" not in str(started)


def test_help_answers_at_once():
    started = time.monotonic()
    answer = subprocess.run([sys.executable, "-m", "harness.ui", "--help"], check=True, capture_output=True, text=True)
    assert "--no-browser" in answer.stdout
    code = "import sys, harness.ui; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert time.monotonic() - started < 10
