"""`python -m harness.capacity`: see `commands/capacity/command.py`."""

import sys

from harness.commands.capacity.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
