"""The entry of `python -m harness`: see `sweep/main.py`."""

from __future__ import annotations

import sys

from harness.sweep.main import hydra_answers, let_hydra_answer, main
from harness.system.command import INTERRUPTED
from harness.system.interruption import leave

if __name__ == "__main__":
    status = let_hydra_answer() if hydra_answers(sys.argv[1:]) else main(sys.argv[1:])
    if status == INTERRUPTED:  # all is put in order: taking torch and MLflow down would only make a person wait
        leave()
    sys.exit(status)
