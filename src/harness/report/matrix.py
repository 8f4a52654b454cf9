"""The arch x hw matrix of each setting: every quartet in its place, and which places are empty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.quartets import QuartetRow, Setting, setting_label


@dataclass(frozen=True)
class Matrix:
    """One setting's grid."""

    setting: Setting
    label: str
    archs: tuple[str, ...]
    hws: tuple[str, ...]
    places: Mapping[tuple[str, str], tuple[QuartetRow, ...]]  # several where a quartet was repeated

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """The places that nobody ran, or that have no factor because their quartets failed."""
        every = ((arch, hw) for arch in self.archs for hw in self.hws)
        return tuple(place for place in every if not any(one.factor for one in self.places.get(place, ())))

    def log_factor(self, place: tuple[str, str]) -> float | None:
        """Return the mean ln(factor) of a place."""
        found = [math.log(one.factor.value) for one in self.places.get(place, ()) if one.factor]
        return sum(found) / len(found) if found else None


def matrices(quartets: Sequence[QuartetRow]) -> tuple[Matrix, ...]:
    """Return one matrix a setting, in the study's order; gains without a factor (arch=none, hw=none) are in none."""
    pairs = [one for one in quartets if one.arch and one.hw]
    settings = list(dict.fromkeys(one.setting for one in pairs))
    out = []
    for setting in settings:
        own = [one for one in pairs if one.setting == setting]
        places: dict[tuple[str, str], tuple[QuartetRow, ...]] = {}
        for one in own:
            place = (one.arch_label, one.hw_label)
            places[place] = (*places.get(place, ()), one)
        out.append(
            Matrix(
                setting=setting,
                label=setting_label(setting, settings),
                archs=tuple(dict.fromkeys(one.arch_label for one in own)),
                hws=tuple(dict.fromkeys(one.hw_label for one in own)),
                places=places,
            )
        )
    return tuple(out)
