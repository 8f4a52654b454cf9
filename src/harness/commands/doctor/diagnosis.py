"""Which engines can build here, which can run, and why the others can't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.engines.base import Engine


@dataclass(frozen=True)
class Diagnosis:
    """What one engine can do on this machine; a text is the reason why not."""

    engine: str
    version: str
    cannot_build: str | None
    cannot_run: str | None
    details: tuple[str, ...] = ()  # of the installed package: where it lies, what its release lacks


def diagnose(device: str) -> list[Diagnosis]:
    """Return what each engine can do on `device`, in the order of their names' registration."""
    from harness import engines
    from harness.system.errors import UserError

    out = []
    for name in engines.names():
        try:
            engine = engines.get(name)
            can = engine.availability(device)
            out.append(Diagnosis(name, _version(engine), can.build, can.run, engine.details()))
        except UserError as error:
            out.append(Diagnosis(name, "-", str(error), str(error)))
    return out


def _version(engine: Engine) -> str:
    """Return the version of the package behind an engine, whether or not it can do anything here; "-" without one."""
    from harness.system.errors import UserError

    try:
        return engine.version()
    except UserError:
        return "-"


def visible_device() -> str:
    """Return `cuda` where torch sees a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
