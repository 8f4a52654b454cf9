"""`python -m harness.doctor`: see `commands/doctor/command.py`."""

import sys

from harness.system.early import answer_early

if __name__ == "__main__":
    answer_early()
    from harness.commands.doctor.command import main

    sys.exit(main(sys.argv[1:]))
