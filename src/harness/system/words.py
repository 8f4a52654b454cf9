"""What a misspelt word was perhaps meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like `word`, None where none is.

    Of words that are as much alike, first the one of the same letters in another order, then the first in `known`.
    """
    letters = {name: name.lower() for name in known}
    matcher = difflib.SequenceMatcher(None, "", word.lower())
    best, found = (cutoff, False), None
    for name, lower in letters.items():
        matcher.set_seq1(lower)
        if matcher.real_quick_ratio() < best[0] or matcher.quick_ratio() < best[0]:
            continue
        rank = (matcher.ratio(), sorted(lower) == sorted(word.lower()))
        if rank > best or (found is None and rank == best):
            best, found = rank, name
    return found


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "did you mean X?" for the nearest known word, "" where none is near."""
    found = nearest(word, known, cutoff)
    return f"did you mean {found}?" if found else ""
