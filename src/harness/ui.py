"""`python -m harness.ui`: see `commands/ui.py`."""

import sys

from harness.system.early import answer_early

if __name__ == "__main__":
    answer_early()
    from harness.commands.ui import main

    sys.exit(main(sys.argv[1:]))
