"""The verdicts of a sweep taken together: with many quartets, some would look decided by chance (Holm)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness.stats.multiplicity import holm_p_values, standing_verdict
from harness.tracking import Store, log_family_verdict

if TYPE_CHECKING:
    import pandas


_SERVER_CALLS = 8  # at once


def adjust(store: Store, frame: pandas.DataFrame) -> None:
    """Log, for each finished quartet of a sweep, its adjusted p-value and the verdict that stands beside the others.

    An adjusted verdict is either the quartet's own or `inconclusive`; see `harness.stats.holm`.
    """
    if "interaction/p_value" not in frame:
        return
    family = frame[(frame["status"] == "FINISHED") & frame["interaction/p_value"].notna()]
    adjusted = holm_p_values(family["interaction/p_value"].tolist())

    def log(row: pandas.Series, p_holm: float) -> None:
        stands = standing_verdict(row["verdict"], p_holm, float(row["protocol.level"]))
        log_family_verdict(store, row["run_id"], p_holm, str(stands))

    # a call a quartet, for MLflow has no other way: a server answers several at once, a sqlite file one
    with ThreadPoolExecutor(_SERVER_CALLS if store.uri.startswith("http") else 1) as pool:
        rows = (row for _, row in family.iterrows())
        list(pool.map(log, rows, adjusted))  # `list` raises what any of them raised
