"""Count the kernels of a quartet's engines by kind, from the layers that TensorRT's inspector lists.

    python experiments/densenet121_tensorrt/kernels.py ARTIFACTS/inspector > kernels.csv

`ARTIFACTS` is the folder of a quartet's run in the MLflow store. A tactic's name is cut before its tile's pipeline.
"""

import collections
import csv
import json
import sys
from pathlib import Path

rows: collections.Counter[tuple[str, ...]] = collections.Counter()
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    cell, _, stage = path.stem.partition("-")
    for layer in json.loads(path.read_text())["Layers"]:
        size = "x".join(map(str, layer.get("Kernel") or ()))
        tactic = str(layer.get("TacticName", "")).partition("_stage")[0].partition("_0x")[0]
        rows[cell, stage, layer["LayerType"], size, str(layer.get("Groups") or ""), tactic] += 1
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow(("cell", "stage", "layer", "kernel", "groups", "tactic", "count"))
out.writerows((*key, count) for key, count in sorted(rows.items(), key=lambda item: (item[0][:2], -item[1])))
