"""A quartet in one sentence and four bars, the same in the terminal, in MLflow and on the page.

`grouped x fusion: together 3.58x, expected 3.49x: independent`. Figures have the digits that the interval of the factor
supports; stored metrics keep all of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from harness.results.estimand import hw_in_words
from harness.results.units import unit_of_throughput
from harness.stats import Gains
from harness.stats.multiplicity import CORRECTIONS
from harness.stats.roles import prefix_of
from harness.stats.verdict import is_decided
from harness.system.counts import WIDEST, limits

GAINS = ("arch", "hw", "expected", "combined")  # the order of the bars
BAR_NAMES = {"arch": "architecture", "hw": "hardware", "expected": "expected", "combined": "together"}
_MOST_DECIMALS = 3
_DECIMALS_WITHOUT_INTERVAL = 1
_FULL, _GAP, _SHORTFALL = "█", "▓", "░"  # a bar; what it has beyond the expected one; what it lacks
_ASCII = str.maketrans({_FULL: "#", _GAP: "+", _SHORTFALL: "."})


@dataclass(frozen=True)
class Headline:
    """What one quartet says; gains are ratios of throughput to the baseline's."""

    arch: str  # the stack in words: `grouped+low_rank`
    hw: str  # likewise, with the engine that its gain contains: `inductor + fusion`
    gains: Gains
    low: float  # interval of the factor; 0 and infinity where it has none
    high: float
    verdict: str  # after the correction over the sweep, where there was one; "" without one
    degraded: bool = False  # a cell did less than requested

    @property
    def sentence(self) -> str:
        """`grouped x fusion: together 3.58x, expected 3.49x: independent`."""
        verdict = outcome(self.verdict or "no verdict", self.degraded)
        together, expected = self.in_words(self.gains.combined), self.in_words(self.gains.expected)
        return f"{self.arch} x {self.hw}: together {together}, expected {expected}: {verdict}"

    @property
    def is_decided(self) -> bool:
        """Whether the data decide between a product, more, and less."""
        return bool(self.verdict) and is_decided(self.verdict)

    @property
    def factor(self) -> float:
        """Combined gain / (arch gain x hw gain)."""
        return self.gains.combined / self.gains.expected

    @property
    def factor_in_words(self) -> str:
        """`1.026 [1.011, 1.041]`."""
        return f"{self.factor:.3f} {limits(self.low, self.high)}"

    @property
    def half_width(self) -> float:
        """Half-width of the interval of ln(factor): about the relative uncertainty of a gain; infinite without one."""
        return math.log(self.high / self.low) / 2 if self.low > 0 and math.isfinite(self.high) else math.inf

    def in_words(self, gain: float) -> str:
        """Return a gain with the digits that are known, two at least: `3.6x` where the factor's half-width is 5%."""
        two = 1 - math.floor(math.log10(self.gains.combined))  # or together and expected would look the same
        return f"{gain:.{max(0, two, known_decimals(self.gains.combined, self.half_width))}f}x"


def known_decimals(value: float, relative_half_width: float) -> int:
    """Return how many decimals of a value its uncertainty supports: the last one is the first that is uncertain.

    At most 3; 1 where the uncertainty is unknown (infinite or 0).
    """
    uncertainty = abs(value) * relative_half_width
    if not 0 < uncertainty < math.inf:
        return _DECIMALS_WITHOUT_INTERVAL
    return min(_MOST_DECIMALS, max(0, -math.floor(math.log10(uncertainty))))


def headline_of(row: Mapping[str, Any]) -> Headline | None:
    """Return the headline of a quartet's stored row, as `harness.load` gives it; None where it has no factor."""
    gains = {key: _number(row, f"gain/{key}") for key in GAINS}
    if any(gain is None or gain <= 0 for gain in gains.values()):
        return None
    low, high = _number(row, "interaction/low"), _number(row, "interaction/high")
    corrected = (_text(row, correction.tag) for correction in CORRECTIONS.values())
    hw = _text(row, "hw").replace("none", "").split("+") if _text(row, "hw") else []
    return Headline(
        arch=_text(row, "arch") or "none",
        hw=hw_in_words([name for name in hw if name], _text(row, "engine"), _text(row, "reference") or "engine"),
        gains=Gains(**{key: float(gain) for key, gain in gains.items() if gain is not None}),
        low=0.0 if low is None else low,
        high=math.inf if high is None else high,
        verdict=next((verdict for verdict in corrected if verdict), _text(row, "verdict")),
        degraded=bool(_text(row, "degraded")),
    )


def headline_of_study(rows: Iterable[Mapping[str, Any]]) -> Headline | None:
    """Return a study's headline: of its decided quartets, else of all, the one with the highest gain together.

    Controls and quartets without a factor, or with an interval wider than tenfold, have none; a degraded quartet has
    one only where all are degraded.
    """
    found = [
        headline
        for row in rows
        if "identity" not in f"{_text(row, 'arch')}+{_text(row, 'hw')}".split("+")
        and (headline := headline_of(row))
        and headline.high <= WIDEST * headline.low
    ]
    return max(
        found, key=lambda headline: (not headline.degraded, headline.is_decided, headline.gains.combined), default=None
    )


PER_S = {
    "baseline": "baseline_per_s", "arch": "arch_per_s", "hw": "hw_per_s", "combined": "combined_per_s",
}  # fmt: skip


def columns_for_people(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that repeat a row's figures in the digits that are known; what it lacks is absent.

    MLflow's table shows a metric with all of its digits, so a person reads these instead.
    """
    out: dict[str, str] = {}
    if _text(row, "verdict"):
        out["outcome"] = outcome(_text(row, "verdict"), bool(_text(row, "degraded")))
    if (headline := headline_of(row)) is not None:
        out["factor"] = headline.factor_in_words
        out["together"] = headline.in_words(headline.gains.combined)
        out["expected"] = headline.in_words(headline.gains.expected)
    for role, name in PER_S.items():
        speed = _number(row, f"{prefix_of(role)}throughput/{row.get('boundary')}")
        if speed is not None:
            out[name] = f"{float(f'{speed:.4g}'):,.10g}"
            out["unit"] = unit_of_throughput(row)
    return out


def outcome(verdict: str, degraded: bool) -> str:
    """Return a verdict in words, with a mark where a cell did less than requested: `conflict, degraded`."""
    return f"{verdict}, degraded" if degraded else verdict


@dataclass(frozen=True)
class FourBars:
    """A headline's bars for a terminal, which rich prints: as wide as the console, at most `most_columns`.

    The bar of the combined cell ends in what it has beyond the expected gain, or in what it lacks.
    """

    headline: Headline
    most_columns: int = 72

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give one line a bar."""
        gains = {name: getattr(self.headline.gains, name) for name in GAINS}
        heads = {name: BAR_NAMES[name].rjust(max(map(len, BAR_NAMES.values()))) for name in GAINS}
        tails = {name: self.headline.in_words(gain) for name, gain in gains.items()}
        tails["combined"] += f"  factor {self.headline.factor_in_words}"
        free = min(self.most_columns, options.max_width) - len(heads["arch"]) - 2 - max(map(len, tails.values()))
        columns = {name: round(max(8, free) * gain / max(gains.values())) for name, gain in gains.items()}
        for name in GAINS:
            bar = _FULL * columns[name]
            if name == "combined":
                shared, expected = min(columns[name], columns["expected"]), columns["expected"]
                bar = _FULL * shared + _GAP * (columns[name] - shared) + _SHORTFALL * (expected - shared)
            if options.ascii_only:
                bar = bar.translate(_ASCII)
            yield Text.assemble(heads[name], " ", (bar, _STYLES[name]), " ", tails[name])


_STYLES = {"arch": "yellow", "hw": "cyan", "expected": "bright_black", "combined": "green"}


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or math.isnan(float(value)) else float(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
