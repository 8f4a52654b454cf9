"""Collect a finished sweep into files that can be committed: one row a quartet, every sample, the environment.

python experiments/collect.py --sweep NAME --out experiments/STUDY
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas

import harness
from harness.config import TrackingConfig
from harness.system.errors import UserError
from harness.tracking import find_store


def main() -> None:
    """Write results.csv, samples, telemetry, interaction.json by run, environment.json and config.yaml.

    Of a quartet under load its serving.json, under its own name: `python -m harness.capacity` reads such a folder.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", help="name or run id (default: the newest)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        frame = harness.load(arguments.sweep).dropna(axis="columns", how="all")
    except UserError as error:  # a study that was cut has not begun them all
        sys.exit(f"collect: {error}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    client = find_store(TrackingConfig()).client()
    tables: dict[str, list[pandas.DataFrame]] = {
        "samples.parquet": [], "visits.parquet": [], "telemetry.parquet": []
    }  # fmt: skip
    details, sweeps = {}, set()
    for row in frame[frame["status"] == "FINISHED"].itertuples():
        names = {one.path for one in client.list_artifacts(row.run_id)}
        sweeps.add(client.get_run(row.run_id).data.tags["mlflow.parentRunId"])
        for name in names & set(tables):
            part = pandas.read_parquet(client.download_artifacts(row.run_id, name))
            tables[name].append(part.assign(run_id=row.run_id))
        if "serving.json" in names:
            served = client.download_artifacts(row.run_id, "serving.json")
            shutil.copy(served, arguments.out / f"{row.run_name.replace(' ', '_')}-serving.json")
        details[row.run_id] = json.loads(Path(client.download_artifacts(row.run_id, "interaction.json")).read_text())
        for name in ("environment.json", "config.yaml"):
            shutil.copy(client.download_artifacts(row.run_id, name), arguments.out / name)
    for sweep in sweeps:  # what it committed itself to beforehand
        if any(found.path == "plan.json" for found in client.list_artifacts(sweep)):
            shutil.copy(client.download_artifacts(sweep, "plan.json"), arguments.out / "plan.json")
    write(frame.drop(columns=["start_time"]), arguments.out / "results.csv")
    for name, parts in tables.items():
        if parts:
            merged = pandas.concat(parts)
            texts = {column: "category" for column in ("cell", "boundary", "run_id") if column in merged}
            write(merged.astype(texts), arguments.out / name)
    temporary = arguments.out / ".interaction.json"
    temporary.write_text(json.dumps({"runs": rounded(details)}, separators=(",", ":")))
    os.replace(temporary, arguments.out / "interaction.json")
    print(f"{len(frame)} quartets, {sum(map(len, tables['samples.parquet']))} samples -> {arguments.out}")


def write(frame: pandas.DataFrame, path: Path) -> None:
    """Write a table as CSV (numbers rounded) or Parquet (every bit) under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}")
    if path.suffix == ".csv":
        numbers = frame.select_dtypes("float").columns
        frame.assign(**{name: frame[name].map(rounded) for name in numbers}).to_csv(temporary, index=False)
    else:
        frame.to_parquet(temporary, compression="zstd", compression_level=22, index=False)
    os.replace(temporary, path)


def rounded(found: Any) -> Any:
    """Return a number to seven digits, more than any clock has; a whole number as it is; what holds numbers alike."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.7g}") if isinstance(found, float) and not found.is_integer() else found


if __name__ == "__main__":
    main()
