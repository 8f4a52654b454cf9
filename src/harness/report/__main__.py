"""`python -m harness.report [SWEEP]`: print the table of a sweep again, the newest one by default."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from harness.config import TrackingConfig
from harness.errors import UserError
from harness.report.table import print_table
from harness.track.load import load
from harness.track.store import resolve_uri


def main() -> int:
    """Print one sweep; return 0, or 2 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m harness.report", description=__doc__)
    parser.add_argument("sweep", nargs="?", help="a sweep's name or run id (default: the newest)")
    parser.add_argument("--uri", help="tracking URI, or the folder of an embedded store (default: mlruns)")
    arguments = parser.parse_args()
    try:
        uri = arguments.uri or resolve_uri(None, TrackingConfig().root)[0]
        print_table(Console(), load(arguments.sweep, uri), uri)
    except UserError as error:
        print(f"harness.report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
