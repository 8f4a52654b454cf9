"""`python -m harness.train`: see `commands/train/command.py`."""

import sys

from harness.commands.train.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
