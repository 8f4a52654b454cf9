"""Statistics: pure functions on arrays.

Statistics of a quartet: pure functions on arrays, no torch, no MLflow.
"""

from harness.stats.coursework import coursework_factor, coursework_verdict
from harness.stats.interaction import Gains, Interaction, estimate, for_others
from harness.stats.intervals import Percentile, minimum_samples, percentile
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.prior import KnownSpread
from harness.stats.verdict import Verdict, is_decided, verdict

__all__ = [
    "Gains",
    "Interaction",
    "KnownSpread",
    "Percentile",
    "Verdict",
    "benjamini_hochberg",
    "coursework_factor",
    "coursework_verdict",
    "estimate",
    "for_others",
    "holm",
    "is_decided",
    "minimum_samples",
    "percentile",
    "verdict",
]
