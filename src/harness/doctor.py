"""`python -m harness.doctor`: see `commands/doctor/command.py`."""

import sys

from harness.commands.doctor.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
