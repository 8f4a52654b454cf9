"""`python -m harness.export`: see `commands/export/command.py`."""

import sys

from harness.system.early import answer_early

if __name__ == "__main__":
    answer_early()
    from harness.commands.export.command import main

    sys.exit(main(sys.argv[1:]))
