"""`python -m harness.report`: see `command.py`."""

import sys

from harness.system.early import answer_early

if __name__ == "__main__":
    answer_early()
    from harness.report.command import main

    sys.exit(main(sys.argv[1:]))
