"""The client as its server sees it: a process that sends requests, hears of answers and says in the end how it went."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from harness.serving.client.load_test import LoadTest
from harness.serving.client.wire import CLOSE, MESSAGE, packed_numbers
from harness.system.errors import CellError

PIPE_BYTES = 1 << 20  # as much as Linux lets a user have: 40,000 requests may wait before LoadGen has to
AT_ONCE = 512 * MESSAGE.size  # what is read in one go takes half a millisecond to decode
SAID = "client.txt"


@dataclass(frozen=True)
class LoadGenReport:
    """What LoadGen says of a test."""

    summary: str  # its text
    told: dict[str, Any]  # the values of its detailed log, by name


class Client:
    """One test under way; use it in a `with`, at whose end the process is gone."""

    def __init__(self, test: LoadTest) -> None:
        self._folder = TemporaryDirectory(prefix="harness-loadgen-")
        self._requests, theirs = os.pipe()
        answers, self._answers = os.pipe()
        _widen(theirs)
        os.set_blocking(self._requests, False)
        with (Path(self._folder.name) / SAID).open("wb") as said:
            command = [sys.executable, "-m", __package__, str(theirs), str(answers), self._folder.name]
            self._process = subprocess.Popen(
                [*command, json.dumps(asdict(test))],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # the same code as here
                pass_fds=(theirs, answers),
                start_new_session=True,  # Ctrl-C is for who asked for the test
            )
        os.close(theirs)
        os.close(answers)
        self._rest = b""
        self.verdict: LoadGenReport | None = None  # known when the test is over

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._requests)
        os.close(self._answers)
        self._folder.cleanup()

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        """Return what the client has sent: (query's number, image or FLUSH, seconds); wait for it at most `timeout_s`.

        At the end of the test `verdict` is set. Raise CellError if the client ended before that.
        """
        if timeout_s != 0:
            select.select([self._requests], [], [], timeout_s)
        try:
            data = os.read(self._requests, AT_ONCE)
        except BlockingIOError:
            return []
        if not data:
            raise CellError(f"LoadGen ended before its test did: {self._last_words()}")
        self._rest += data
        whole = len(self._rest) // MESSAGE.size * MESSAGE.size
        out: list[tuple[int, int, float]] = []
        for at in range(0, whole, MESSAGE.size):
            number, image, seconds = MESSAGE.unpack_from(self._rest, at)
            if image == CLOSE:
                self._close(self._rest[at + MESSAGE.size :], number)
                return out
            out.append((number, image, seconds))
        self._rest = self._rest[whole:]
        return out

    def answer(self, numbers: Sequence[int]) -> None:
        """Tell the client which queries are answered."""
        data = packed_numbers(numbers)
        try:
            while data:
                data = data[os.write(self._answers, data) :]
        except BrokenPipeError:
            raise CellError(f"LoadGen ended before its test did: {self._last_words()}") from None

    def _close(self, told: bytes, length: int) -> None:
        os.set_blocking(self._requests, True)
        while len(told) < length:
            more = os.read(self._requests, length - len(told))
            if not more:
                raise CellError(f"LoadGen ended before it had told all: {self._last_words()}")
            told += more
        found = json.loads(told)
        self.verdict = LoadGenReport(found["summary"], found["told"])

    def _last_words(self) -> str:
        status = self._process.wait()
        lines = (Path(self._folder.name) / SAID).read_text(errors="replace").strip().splitlines()
        return f"status {status}" + (f", {lines[-1]}" if lines else "")


def _widen(pipe: int) -> None:
    """Let a pipe hold more, where the system can be asked for that (Linux)."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            return
