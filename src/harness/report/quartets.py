"""The rows of a study as quartets of cells: what was on, under which setting, how fast, at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.results.accuracy import interaction_in_words
from harness.results.estimand import contains_engine, hw_in_words, name_in_words
from harness.results.metrics import declared
from harness.stats.factorial import Ratio
from harness.stats.multiplicity import Correction, correction_of, standing_verdict
from harness.stats.roles import ROLES, prefix_of
from harness.system.counts import limits

if TYPE_CHECKING:
    import pandas

CONTROL = "identity"
# what must be the same for two quartets to be in one matrix
_SETTING = (
    "model", "weights", "image_size", "engine", "reference", "scenario", "boundary", "gpu", "engine_version",
    "batch_size",
)  # fmt: skip
_ALWAYS = ("model", "engine", "reference", "batch_size", "boundary")
Setting = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CellRow:
    """One measured cell; what was not measured is None."""

    role: str
    techniques: frozenset[str]
    throughput_ips: float  # on the primary boundary
    metrics: Mapping[str, float]  # what is declared in `results/metrics.py`, without the role before the name

    @property
    def memory_gb(self) -> float | None:
        """Memory of its process, 10^9 bytes: the GPU's where there is one, else the host's."""
        memory_mb = self.metrics.get("gpu/peak_memory_mb") or self.metrics.get("host/peak_memory_mb")
        return memory_mb / 1e3 if memory_mb else None


@dataclass(frozen=True)
class QuartetRow:
    """One row."""

    run_id: str
    name: str
    status: str
    error: str
    setting: Setting
    arch: tuple[str, ...]  # techniques, with the options that differ within the study
    hw: tuple[str, ...]
    cells: Mapping[str, CellRow]  # by role; those that were measured
    factor: Ratio | None
    gains: Mapping[str, float]  # arch, hw, combined, expected
    verdict: str  # of the quartet alone; "" without one
    verdict_adjusted: str  # after the correction over the study
    p_adjusted: float | None
    remarks: tuple[str, ...]  # degraded, not converged, ...
    row: Mapping[str, Any]

    @property
    def is_control(self) -> bool:
        """Whether a side is the control `identity`, which changes nothing."""
        return CONTROL in (*self.arch, *self.hw)

    @property
    def arch_label(self) -> str:
        """The architecture stack in words."""
        return "+".join(self.arch) or "none"

    @property
    def hw_label(self) -> str:
        """The hardware stack in words, with the engine that its gain contains: `inductor + fp16`."""
        return hw_in_words(self.hw, *self._engines)

    @property
    def contains_engine(self) -> bool:
        """Whether a hw gain of this quartet contains the change of engine."""
        return contains_engine(self.hw, *self._engines)

    @property
    def _engines(self) -> tuple[str, str]:
        setting = dict(self.setting)
        return setting.get("engine", ""), setting.get("reference", "engine")


def quartets(frame: pandas.DataFrame) -> tuple[QuartetRow, ...]:
    """Return the quartets of a study in its order."""
    varied = {str(name) for name in frame if frame[name].nunique() > 1}
    rows = [{str(name): _none_if_missing(value) for name, value in row.items()} for row in frame.to_dict("records")]
    _fill_versions(rows)
    correction = correction_among(rows)
    adjusted = _adjusted(rows, correction)
    return tuple(_quartet(row, varied, corrected, correction) for row, corrected in zip(rows, adjusted, strict=True))


def setting_label(setting: Setting, among: Sequence[Setting], always: Sequence[str] = _ALWAYS) -> str:
    """Return what tells a setting from the others, and what is `always` said of it."""
    differing = {name for name, _ in setting if len({dict(each).get(name) for each in among}) > 1}
    shown = [name for name, _ in setting if name in differing or name in always]
    values = dict(setting)
    return ", ".join(values[name] if name in ("model", "engine") else f"{_word(name)} {values[name]}" for name in shown)


def ends_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of a row's interval: 0 and infinity where they are missing, for MLflow keeps what is finite."""
    found = [row.get(f"interaction/{key}") for key in ("low", "high")]
    low, high = (math.nan if value is None else float(value) for value in found)
    return (0.0 if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


def half_width_of(ratio: Ratio) -> float:
    """Return that of the interval of ln(ratio); infinite where the interval has no end."""
    return math.log(ratio.high / ratio.low) / 2 if ratio.low > 0 else math.inf


def interval(ratio: Ratio) -> str:
    """Return a ratio with its interval."""
    return f"{ratio.value:.3f} {limits(ratio.low, ratio.high)}"


def _word(name: str) -> str:
    return {"batch_size": "batch"}.get(name, name.replace("_", " "))


def _quartet(
    row: Mapping[str, Any], varied: set[str], corrected: tuple[float | None, str], correction: Correction
) -> QuartetRow:
    arch, hw = (_techniques(family, row, varied) for family in ("arch", "hw"))
    boundary = str(row.get("boundary") or "")
    on = {"baseline": frozenset(), "arch": frozenset(arch), "hw": frozenset(hw), "combined": frozenset((*arch, *hw))}
    cells = {role: _cell(row, role, on[role], boundary) for role in ROLES}
    factor = None
    if row.get("interaction/factor") is not None:
        factor = Ratio(float(row["interaction/factor"]), *ends_of(row))
    return QuartetRow(
        run_id=str(row["run_id"]),
        name=name_in_words(str(row["run_name"]), *(str(row.get(key)) for key in ("arch", "hw", "engine", "reference"))),
        status=str(row["status"]),
        error=str(row.get("error") or ""),
        setting=tuple((name, str(row[name])) for name in _SETTING if row.get(name) is not None),
        arch=arch,
        hw=hw,
        cells={role: cell for role, cell in cells.items() if cell is not None},
        factor=factor if row["status"] == "FINISHED" else None,
        gains={
            key: float(row[f"gain/{key}"]) for key in ("arch", "hw", "combined", "expected") if row.get(f"gain/{key}")
        },
        verdict=str(row.get("verdict") or ""),
        verdict_adjusted=corrected[1],
        p_adjusted=corrected[0],
        remarks=_remarks(row, corrected[1], correction),
        row=row,
    )


def _techniques(family: str, row: Mapping[str, Any], varied: set[str]) -> tuple[str, ...]:
    names = [name for name in str(row.get(family) or "none").split("+") if name != "none"]
    out = []
    for name in names:
        prefix = f"{family}.{name}."
        options = [option for option in sorted(varied) if option.startswith(prefix) and row.get(option) is not None]
        differing = _differing(options, row)
        out.append(f"{name}({', '.join(differing)})" if differing else name)
    return tuple(out)


def _differing(options: Sequence[str], row: Mapping[str, Any]) -> list[str]:
    return [f"{option.rpartition('.')[2]}={row[option]}" for option in options if row[option] not in (None, "None")]


def _cell(row: Mapping[str, Any], role: str, techniques: frozenset[str], boundary: str) -> CellRow | None:
    prefix = prefix_of(role)
    throughput = row.get(f"{prefix}throughput/{boundary}")
    if throughput is None:
        return None
    logged = {name: row.get(f"{prefix}{name}") for metric in declared() for name in metric.names}
    known = {name: float(value) for name, value in logged.items() if value is not None}
    return CellRow(role, techniques, float(throughput), known)


def _remarks(row: Mapping[str, Any], adjusted: str, correction: Correction) -> tuple[str, ...]:
    out = []
    if row.get("degraded"):
        out.append(f"degraded: {row['degraded']}")
    if row.get("untrained"):
        out.append(f"no accuracy: {row['untrained']}")
    if accuracy := interaction_in_words(row):
        out.append(accuracy)
    if row.get("note"):
        out.append(str(row["note"]))
    if str(row.get("converged")).lower() == "false":
        out.append("not converged within its budget")
    if row.get("unstationary"):
        out.append(str(row["unstationary"]))
    if row.get("verdict") and adjusted != row["verdict"]:
        out.append(f"{row['verdict']} alone, not after {correction.title} correction over the study")
    return tuple(out)


def correction_among(rows: Sequence[Mapping[str, Any]]) -> Correction:
    """Return the correction over the quartets of a study, by what those with a p-value were measured for."""
    return correction_of(row.get("protocol.family") for row in rows if row.get("interaction/p_value") is not None)


def _adjusted(rows: Sequence[Mapping[str, Any]], correction: Correction) -> list[tuple[float | None, str]]:
    """Return p and verdict of each row after the correction over all finished quartets of the study."""
    family = [
        n for n, row in enumerate(rows) if row["status"] == "FINISHED" and row.get("interaction/p_value") is not None
    ]
    p_values = [float(rows[n]["interaction/p_value"]) for n in family]
    adjusted = dict(zip(family, correction.p_values(p_values), strict=True))
    out: list[tuple[float | None, str]] = []
    for number, row in enumerate(rows):
        verdict = str(row.get("verdict") or "")
        if number in adjusted and verdict:
            level = float(row.get("protocol.level") or 0.95)
            out.append((adjusted[number], str(standing_verdict(verdict, adjusted[number], level))))
        else:
            out.append((None, verdict))
    return out


def _fill_versions(rows: Sequence[dict[str, Any]]) -> None:
    """Fill in the engine's version of quartets that failed early, where their study has one version of it only."""
    known: dict[Any, set[Any]] = {}
    for row in rows:
        known.setdefault(row["engine"], set()).add(row.get("engine_version"))
    for row in rows:
        versions = known[row["engine"]] - {None}
        if row.get("engine_version") is None and len(versions) == 1:
            (row["engine_version"],) = versions


def _none_if_missing(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
