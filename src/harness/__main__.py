"""The Hydra entry: compose and check every job, then let Hydra run them."""

from __future__ import annotations

import sys

from harness.sweep.main import main
from harness.system.interruption import STATUS, leave

if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status == STATUS:  # all is put in order: taking torch and MLflow down would only make a person wait
        leave()
    sys.exit(status)
