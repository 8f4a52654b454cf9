"""The entry of `python -m harness.train`; see `command.py`."""

from __future__ import annotations

import sys

from harness.train.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
