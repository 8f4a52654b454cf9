"""Names that a user chooses and others read: no name leads to another folder or writes on somebody's terminal."""

from __future__ import annotations

from harness.errors import UserError

MOST_CHARACTERS = 200


def check_sweep_name(name: str | None) -> None:
    """Raise UserError for a sweep's name that a report or an export could not use as a file's name as it is."""
    if name is None:
        return
    bad = "".join(sorted({c for c in name if c in "/\\" or not c.isprintable()}))
    if bad or name.strip(". ") == "" or len(name) > MOST_CHARACTERS:
        found = f"it has {bad!a}" if bad else f"it has {len(name)} characters"
        raise UserError(
            f"sweep_name={name[:80]!a} is no plain name ({found}): use 1 to {MOST_CHARACTERS} printable characters "
            "without / and \\, not dots alone."
        )
