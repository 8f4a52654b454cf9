"""Find the `serving.json` files of a study: a path, or a sweep or a quartet in the tracking store."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.capacity.curves import Curves
from harness.commands.capacity.reading import parse
from harness.system.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT = "serving.json"
CPU = "a CPU (what is called a GPU below is one such machine)"


def find_curves(study: str, uri: str | None = None) -> list[Curves]:
    """Return the curves of each quartet of a study.

    Args:
        study: a file; a folder (all files below it whose names end in `serving.json`); else a sweep's name or run
            id, or the run id of one quartet. A path that exists comes before a sweep of that name.
        uri: a tracking URI, or a folder that holds an embedded store; None: as `harness.load` finds it.

    Raises:
        UserError: there is no such study, none of its quartets was measured under load, or a file is wrong.

    """
    path = Path(study)
    if path.is_file():
        return [_read(path, str(path))]
    if path.is_dir():
        files = sorted(path.rglob(f"*{ARTIFACT}"))
        if not files:
            raise UserError(f"no file named {ARTIFACT} (or ending so) below the folder {study}")
        return [_read(file, str(file.relative_to(path))) for file in files]
    if path.suffix == ".json":
        raise UserError(f"there is no file {study}")
    return _stored(study, uri)


def _read(path: Path, name: str, device: str | None = None) -> Curves:
    try:
        return parse(path.read_text(encoding="utf-8"), name, device)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error


def _stored(study: str, uri: str | None) -> list[Curves]:
    from harness.config import TrackingConfig
    from harness.tracking.load import load
    from harness.tracking.store import DATABASE, as_user_error, client, existing_uri, quiet_environment, resolve_uri

    if uri and Path(uri).is_dir():
        uri = f"sqlite:///{Path(uri).absolute() / DATABASE}"
    address = existing_uri(uri or resolve_uri(None, TrackingConfig().root)[0])
    quiet_environment()
    mlflow = client(address)
    if _is_quartet(mlflow, study):
        ids = [study]
    else:
        sweep = load(study, address)
        ids = [str(run_id) for run_id in sweep["run_id"][sweep["status"] == "FINISHED"]]
    with as_user_error(address, "read"), tempfile.TemporaryDirectory() as folder:
        found: list[Curves] = []
        for run_id in ids:
            if any(artifact.path == ARTIFACT for artifact in mlflow.list_artifacts(run_id)):
                run = mlflow.get_run(run_id)
                file = Path(mlflow.download_artifacts(run_id, ARTIFACT, folder))
                name, gpu = str(run.info.run_name), run.data.tags.get("gpu")
                name = f"{name}-{run_id[:6]}" if any(one.name == name for one in found) else name
                found.append(_read(file, name, CPU if gpu == "none" else gpu))
    if not found:
        raise UserError(
            f"{study}: none of its {len(ids)} finished quartets was measured under load: run it with scenario=server"
        )
    return found


def _is_quartet(mlflow: MlflowClient, study: str) -> bool:
    from mlflow.exceptions import MlflowException

    if not re.fullmatch(r"[0-9a-f]{32}", study):  # MLflow's run ids
        return False
    try:
        return bool(mlflow.get_run(study).data.tags.get("kind") == "quartet")
    except MlflowException:
        return False  # then it is for `load` to say that there is no such sweep
