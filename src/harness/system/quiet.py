"""A screen without third-party warnings: a user can do nothing about them."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Keep other packages' warnings off the screen, in this process and in those that it starts."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # worker processes too
    for name in ("torch", "onnxscript", "onnx_ir", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
