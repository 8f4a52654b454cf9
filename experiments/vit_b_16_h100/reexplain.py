"""Explain the quartets of `vit_b_16` again, from their own profiles, with parts called the same in all four cells.

python experiments/vit_b_16_h100/reexplain.py SWEEP      # in the store that holds it, before it is collected

When they were measured, eager named all layers of the encoder `encoder` and Inductor each one apart, and neither had a
name for what comes before them (`harness.engines.profiling` names both now). Every millisecond is as the
profilers gave it: the stem is what ran before the first layer, the encoder all layers, the normalisation after them and
the kernels that span two parts: 0.282 ms a batch with twelve layers and 0.140 with six, so 0.024 between two
layers and 0.022 at both ends.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import harness
from harness.config import TrackingConfig
from harness.engines.profiling import CellProfile
from harness.results.why import ceiling_shares, details, explain
from harness.stats.roles import ROLES, prefix_of
from harness.tracking import find_store


def main(sweep: str) -> None:
    """Write sentences, metrics and numbers of each quartet's why anew, and print them."""
    client = find_store(TrackingConfig()).client()
    for _, row in harness.load(sweep).iterrows():
        path = Path(client.download_artifacts(row["run_id"], "interaction.json"))
        record = json.loads(path.read_text())
        told = {role: CellProfile(**one) for role, one in record["why"]["profiles"].items()}
        profiles = {role: replace(one, parts_ms=_merged(one.parts_ms)) for role, one in told.items()}
        prefixes = {role: prefix_of(role) for role in ROLES}
        speeds = {role: row[f"{prefix}throughput/device"] for role, prefix in prefixes.items()}
        on_wall = math.log(row["interaction/wall_factor"] / row["interaction/device_factor"])
        settled = row["verdict"] != "inconclusive"
        found = ceiling_shares(row, prefixes)
        size = int(row["batch_size"])
        why = explain(profiles, speeds, speeds, "device", size, on_wall, established=settled, ceiling_shares=found)
        if why is None:
            sys.exit(f"no profile of {row['run_name']}")
        sentences = " ".join(why.sentences)
        note = client.get_run(row["run_id"]).data.tags["mlflow.note.content"]
        client.set_tag(row["run_id"], "mlflow.note.content", re.sub(r"\*\*Why\*\*.*", f"**Why** {sentences}", note))
        client.set_tag(row["run_id"], "why", sentences)
        client.log_metric(row["run_id"], "why/amdahl_factor", why.stagewise.amdahl_factor)
        client.log_metric(row["run_id"], "why/attributed", min(one.attributed for one in profiles.values()))
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "interaction.json"
            new.write_text(json.dumps(record | {"why": details(why)}, indent=1))
            client.log_artifact(row["run_id"], str(new))
        print(f"{row['run_name']}\n  {sentences}")
        for part, times in details(why)["part_ms"].items():
            print(f"  {part:10}", "  ".join(f"{role} {ms:7.3f}" for role, ms in times.items()))


def _merged(parts_ms: Mapping[str, float]) -> dict[str, float]:
    out: dict[str, float] = {}
    for part, ms in parts_ms.items():
        name = "encoder" if part.startswith("encoder") else _SAME.get(part, part)
        out[name] = out.get(name, 0.0) + ms
    return out


_SAME = {"unattributed": "stem", "conv_proj": "stem", "tail": "head", "spanning": "encoder"}

if __name__ == "__main__":
    main(sys.argv[1])
