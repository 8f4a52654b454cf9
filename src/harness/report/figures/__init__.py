"""The pictures of a report: one file each, drawn once, shown in the page as SVG and in MLflow as PNG and SVG."""

from harness.report.figures.all import pictures
from harness.report.figures.canvas import Picture

__all__ = ["Picture", "pictures"]
