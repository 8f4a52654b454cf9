"""Browse the runs: `python -m harness.ui` serves the embedded store and prints the address of the shipped view."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from harness.config import TrackingConfig
from harness.system.command import CommandParser, run_command, whole_number
from harness.system.errors import UserError
from harness.system.processes import start_guarded
from harness.system.secrets import redacted, without_user
from harness.tracking.store import Store, find_store, shown, sqlite_path
from harness.tracking.view import install_views, view_url, views

DEFAULT_PORT, HOST = 5000, "127.0.0.1"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit status (2: nothing to serve, a busy port, a server that won't start)."""
    return run_command("harness.ui", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: the server must not outlive us
    try:
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if options.root is not None and address:
            raise UserError("--root: MLFLOW_TRACKING_URI names another store; unset it, or drop --root.")
        root = TrackingConfig().root if options.root is None else options.root
        store = find_store(TrackingConfig(root=root, experiment=options.experiment))
        is_elsewhere = store.uri.startswith(("http://", "https://"))
        if is_elsewhere and (options.port is not None or options.host is not None):
            raise UserError(
                f"--port and --host apply to a server started here, and the runs are on {shown(store.uri)}."
            )
        install_views(store)
        if is_elsewhere:
            print(f"The runs are on a server already: open {view_url(store, without_user(store.uri))}", flush=True)
            return 0
        host = HOST if options.host is None else options.host
        port = _free_port(host, options.port)
        with _server(store, host, port) as process:
            url = view_url(store, f"http://{_reachable(host)}:{port}")
            print(f"MLflow shows the runs at {url}  (Ctrl-C stops it)", flush=True)
            for view in views()[1:]:
                print(f"  {view.name}: {view_url(store, url.partition('/#')[0], view.key)}", flush=True)
            if not options.no_browser and _has_display():
                webbrowser.open(url)
            process.wait()
            raise UserError(f"the MLflow server ended by itself with status {process.returncode}")
    except KeyboardInterrupt:  # this is how it is meant to end
        return 0


def _parser() -> CommandParser:
    parser = CommandParser("harness.ui", description="Browse the runs in MLflow.")
    port = whole_number(1, 65535)
    parser.add_argument(
        "--port", type=port, help=f"refused if busy; default: {DEFAULT_PORT}, or the next one that is free"
    )
    parser.add_argument("--host", help=f"interface to serve on (default: {HOST})")
    parser.add_argument("--root", help=f"folder of the embedded store (default: {TrackingConfig().root})")
    parser.add_argument("--experiment", default="harness", help="MLflow experiment (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser


@contextmanager
def _server(store: Store, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an MLflow server that answers; on the way out stop it with every process it started."""
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    database = sqlite_path(store.uri)
    if database is not None:
        command += ["--default-artifact-root", str(database.parent / "artifacts")]
    # No job runner: it would start more processes for features that nobody here uses.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["MLFLOW_BACKEND_STORE_URI"] = store.uri  # not as an argument: everybody sees those, passwords included
    with tempfile.TemporaryFile() as log:
        # A session of its own, so that one signal reaches the whole family and Ctrl-C only reaches us.
        process = start_guarded(command, stdout=log, stderr=log, env=environment)
        try:
            _wait_until_it_answers(process, f"http://{_reachable(host)}:{port}/health", log)
            yield process
        finally:
            _stop(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.2)
    log.seek(0)
    said = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    raise UserError(f"the MLflow server did not start: {redacted(said[-1])[:300] if said else 'it said nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server's process group to end, then make it: nothing of it may stay behind."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            process.poll()  # reaps it: a zombie still counts as a member of its group
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def _free_port(host: str, requested: int | None) -> int:
    """Return `requested` if it is free, else the first free port from the default on."""
    first = DEFAULT_PORT if requested is None else requested
    free = next((port for port in range(first, min(first + 100, 65536)) if _is_free(host, port)), None)
    if free is None:
        raise UserError(f"no free port from {first} on: choose one with --port N")
    if requested is None and free != first:
        print(f"Port {first} is busy, using {free}.", flush=True)
    if requested is not None and free != requested:
        raise UserError(f"port {requested} is busy on {host}: try --port {free}")
    return free


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise UserError(f"can't serve on --host {host}: {error}") from error
            return False
    return True


def _reachable(host: str) -> str:
    """Return the host that a browser on this machine opens."""
    return "127.0.0.1" if host in ("0.0.0.0", "") else host


def _has_display() -> bool:
    """Tell whether a window can open; without one, Python would start a text browser in this terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
