"""`python -m harness.ui`: see `commands/ui.py`."""

import sys

from harness.commands.ui import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
