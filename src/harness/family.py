"""The verdicts of a sweep taken together: with many quartets, some would look decided by chance (Holm)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.stats.multiplicity import holm_p_values, standing_verdict
from harness.track import Store, log_family_verdict

if TYPE_CHECKING:
    import pandas


def adjust(store: Store, frame: pandas.DataFrame) -> None:
    """Log, for each finished quartet of a sweep, its adjusted p-value and the verdict that stands beside the others.

    An adjusted verdict is either the quartet's own or `inconclusive`; see `harness.stats.holm`.
    """
    if "interaction/p_value" not in frame:
        return
    family = frame[(frame["status"] == "FINISHED") & frame["interaction/p_value"].notna()]
    adjusted = holm_p_values(family["interaction/p_value"].tolist())
    for (_, row), p_holm in zip(family.iterrows(), adjusted, strict=True):
        stands = standing_verdict(row["verdict"], p_holm, float(row["protocol.level"]))
        log_family_verdict(store, row["run_id"], p_holm, str(stands))
