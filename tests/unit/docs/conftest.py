from __future__ import annotations

import sys
from pathlib import Path

# what makes the pages: docs/make is no package, as MkDocs imports it the same way
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs" / "make"))
