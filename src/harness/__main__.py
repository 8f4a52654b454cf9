"""The entry of `python -m harness`: see `sweep/main.py`."""

from __future__ import annotations

import sys

from harness.system.early import answer_early, ignore_from_here


def _run() -> int:
    from harness.sweep.main import hydra_answers, let_hydra_answer, main
    from harness.system.command import INTERRUPTED
    from harness.system.interruption import leave

    status = let_hydra_answer() if hydra_answers(sys.argv[1:]) else main(sys.argv[1:])
    ignore_from_here()
    if status == INTERRUPTED:  # all is put in order: taking torch and MLflow down would only make a person wait
        leave()
    return status


if __name__ == "__main__":
    answer_early()
    sys.exit(_run())
