"""Why jobs of a sweep can't be measured: collected job by job, then shown once for all jobs that share a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.sweep.command_line import Job
from harness.system.counts import counted
from harness.system.errors import UserError


@dataclass(frozen=True)
class LeftOut:
    """Jobs of a sweep that are not measured, and why."""

    jobs: int
    names: str  # the overrides that tell them from the other jobs
    reason: str

    @property
    def text(self) -> str:
        """The names, then the reason, whose further lines are indented."""
        return f"{self.names}: {self.reason}".replace("\n", "\n    ")


class Reasons:
    """What was refused of a sweep so far: the first reason of each job, and what concerns the sweep as a whole."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        # as they were typed: Hydra escapes what has a meaning of its own, as the colon of module:function
        self._words = [[re.sub(r"\\(.)", r"\1", word) for word in dict.fromkeys(job.overrides)] for job in jobs]
        self._of_jobs: dict[int, str] = {}
        self._of_all: list[str] = []

    @contextmanager
    def of(self, *numbers: int) -> Iterator[None]:
        """Note a UserError raised inside as the reason of the jobs with these numbers."""
        try:
            yield
        except UserError as error:
            self.add(numbers, str(error))

    @contextmanager
    def of_all(self) -> Iterator[None]:
        """Note a UserError raised inside as one of the sweep as a whole, which no job can do without."""
        try:
            yield
        except UserError as error:
            self._of_all.append(str(error))

    def add(self, numbers: Sequence[int], text: str) -> None:
        """Note why the jobs with these numbers can't be measured; a reason that one has already counts."""
        for number in numbers:
            self._of_jobs.setdefault(number, text)

    def able(self) -> list[int]:
        """Return the numbers of the jobs that nothing was found against."""
        return [number for number in range(len(self._words)) if number not in self._of_jobs]

    def concern_all(self) -> bool:
        """Return whether something was found against the sweep as a whole."""
        return bool(self._of_all)

    def left_out(self) -> tuple[LeftOut, ...]:
        """Return what was refused, one entry for each reason."""
        by_text: dict[str, list[int]] = {}
        for number, text in sorted(self._of_jobs.items()):
            by_text.setdefault(text, []).append(number)
        return tuple(LeftOut(len(numbers), self.named(numbers), text) for text, numbers in by_text.items())

    def named(self, numbers: Sequence[int]) -> str:
        """Return the overrides that tell some jobs from the rest; the one that all of them and no others have alone."""
        shared = set(self._words[0]).intersection(*self._words[1:])
        for word in self._words[numbers[0]]:
            if word not in shared and len(numbers) > 1:
                having = [number for number, words in enumerate(self._words) if word in words]
                if having == list(numbers):
                    return f"{word} ({len(numbers)} jobs)"
        names = (" ".join(word for word in self._words[number] if word not in shared) for number in numbers)
        return "; ".join(name or f"job {number + 1}" for name, number in zip(names, numbers, strict=True))

    def raise_for(self, skip: bool) -> None:
        """Raise UserError with all reasons; with `skip` only where the sweep as a whole or each job of it has one."""
        if self._of_all or (self._of_jobs and not (skip and self.able())):
            raise UserError(self._text(skip))

    def _text(self, skip: bool) -> str:
        jobs, refused, found = len(self._words), len(self._of_jobs), self.left_out()
        if len(found) == 1 and refused == jobs:  # one reason of all jobs needs no names
            return "\n".join([*self._of_all, found[0].reason])
        lines = list(self._of_all)
        if found:
            lines.append(f"{refused} of {jobs} jobs of this sweep can't be measured:")
            lines += [f"  {entry.text}" for entry in found]
        if self.able() and found and not skip and not self._of_all:
            others = counted(jobs - refused, "job")
            lines.append(f"on_unsupported=skip leaves them out and measures the other {others}.")
        return "\n".join(lines)
