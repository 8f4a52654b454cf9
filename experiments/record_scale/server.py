"""A real MLflow server with all that a fleet's has: PostgreSQL behind it, basic auth, TLS. For as long as it is used.

PostgreSQL's own programs are needed (initdb, pg_ctl); as root they run as the user postgres, since they refuse to
run as root. All of it listens on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 180.0
ADMIN = "admin"
HAS_POSTGRES = all(shutil.which(program) for program in ("initdb", "pg_ctl", "openssl"))
HAS_NGINX = shutil.which("nginx") is not None


@dataclass(frozen=True)
class Server:
    """Where the server is, and who may use it."""

    url: str
    user: str
    password: str
    certificate: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """What MLflow's clients, ours among them, read."""
        out = {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }
        return out | ({"MLFLOW_TRACKING_SERVER_CERT_PATH": str(self.certificate)} if self.certificate else {})


@contextmanager
def postgres(*databases: str) -> Iterator[dict[str, str]]:
    """Run PostgreSQL with a database each; yield their SQLAlchemy addresses by name."""
    user = "postgres" if os.getuid() == 0 else None
    reachable = "/tmp" if user else None  # a temporary folder of root's own may be closed to others
    with tempfile.TemporaryDirectory(prefix="harness-pg-", dir=reachable) as root:
        folder = Path(root) / "data"
        if user:
            shutil.chown(root, user)

        def run(*words: str) -> None:
            done = subprocess.run(words, user=user, cwd=root, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{words[0]} failed: {done.stderr[-500:]}")

        run("initdb", "-D", str(folder), "-U", "mlflow", "--auth=trust", "--encoding=UTF8", "--locale=C")
        port = free_port()
        run("pg_ctl", "-D", str(folder), "-w", "-l", f"{root}/log", "-o", f"-h 127.0.0.1 -p {port} -k {root}", "start")
        try:
            for name in databases:
                run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", name)
            yield {name: f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/{name}" for name in databases}
        finally:
            run("pg_ctl", "-D", str(folder), "-w", "-m", "immediate", "stop")


@contextmanager
def tracking_server(folder: Path, tls: str = "", workers: int = 1) -> Iterator[Server]:
    """Run an MLflow server on PostgreSQL with basic auth; files below `folder`.

    `tls` is "" (none), "uvicorn" (the server's own) or "nginx" (a proxy before it ends the encryption).
    """
    certificate, key = folder / "server.crt", folder / "server.key"
    if tls:
        _make_certificate(certificate, key)
    port = free_port()
    front = free_port() if tls == "nginx" else port
    password = secrets.token_urlsafe(16)
    with postgres("mlflow", "auth") as addresses:
        auth = folder / "auth.ini"
        auth.touch(mode=0o600)
        auth.write_text(
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = {addresses['auth']}\n"
            f"admin_username = {ADMIN}\n"
            f"admin_password = {password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", str(workers)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", addresses["mlflow"]]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        command += ["--allowed-hosts", f"localhost:{front},127.0.0.1:{front},localhost:{port},127.0.0.1:{port}"]
        if tls == "uvicorn":
            command += ["--uvicorn-opts", f"--ssl-certfile {certificate} --ssl-keyfile {key}"]
        environment = {
            **os.environ,
            "MLFLOW_AUTH_CONFIG_PATH": str(auth),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(16),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            environment.pop(name, None)
        with _running(command, folder / "mlflow.log", environment):
            url = f"{'https' if tls else 'http'}://localhost:{front}"
            with _proxy(folder, front, port, certificate, key) if tls == "nginx" else nullcontext():
                _wait(url, certificate if tls else None, folder / "mlflow.log")
                yield Server(url, ADMIN, password, certificate if tls else None)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _proxy(folder: Path, front: int, behind: int, certificate: Path, key: Path) -> Iterator[None]:
    """Run nginx with what docs/fleet.md shows."""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events {}\n"
        "http {\n"
        f"  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        "  server {\n"
        f"    listen 127.0.0.1:{front} ssl;\n"
        f"    ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        "    client_max_body_size 0;\n"
        "    location / {\n"
        f"      proxy_pass http://127.0.0.1:{behind};\n"
        "      proxy_set_header Host $http_host;\n"
        "      proxy_set_header X-Forwarded-Proto https;\n"
        "      proxy_request_buffering off;\n"
        "    }\n"
        "  }\n"
        "}\n"
    )
    with _running(["nginx", "-c", str(configuration)], folder / "nginx.out", dict(os.environ)):
        yield


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with open(log, "wb") as handle:
        process = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment, start_new_session=True)
        try:
            yield
        finally:
            for how in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)


def _wait(url: str, certificate: Path | None, log: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate)) if certificate else None
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5, context=context).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise RuntimeError(f"the MLflow server did not start: {log.read_text(errors='replace')[-2000:]}")


def _make_certificate(certificate: Path, key: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    key.chmod(0o600)
