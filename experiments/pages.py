"""Make the page of every committed study from its data; status 1 if one can't be made.

python experiments/pages.py [--out pages]      # one study: python -m harness.report FOLDER --html FILE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.report.choose import Limits
from harness.report.findings import find
from harness.report.page import page, write_page
from harness.report.study import RESULTS, is_of_quartets, open_study
from harness.system.errors import UserError

EXPERIMENTS = Path(__file__).resolve().parent


def studies(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders whose results.csv has a row a quartet, and those whose table is of something else."""
    quartets, others = [], []
    for path in sorted(root.rglob(RESULTS)):
        (quartets if is_of_quartets(path) else others).append(path.parent)
    return quartets, others


def make(folders: Iterable[Path], root: Path, out: Path) -> list[str]:
    """Write the page of each folder to the same place below `out`; return what is wrong with those that have none."""
    wrong = []
    for folder in folders:
        path = out / f"{folder.relative_to(root)}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            study = open_study(str(folder))
            write_page(path, page(study, find(study, Limits())))
        except UserError as error:
            wrong.append(str(error))
        else:
            print(path, flush=True)
    return wrong


def main() -> int:
    """Make the pages, name the folders that are no studies of quartets, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("pages"), help="folder of the pages (default: %(default)s)")
    options = parser.parse_args()
    found, others = studies(EXPERIMENTS)
    wrong = make(found, EXPERIMENTS, options.out)
    print(f"{len(found) - len(wrong)} pages. Not of quartets, so without a page (a README tells what they hold):")
    print(", ".join(one.relative_to(EXPERIMENTS).as_posix() for one in others))
    for line in wrong:
        print(f"pages: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
