"""Which engines can build here, which can run, and why the others can't."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """What one engine can do on this machine; a text is the reason why not."""

    engine: str
    version: str
    cannot_build: str | None
    cannot_run: str | None


def diagnose(device: str) -> list[Diagnosis]:
    """Return what each engine can do on `device`, in the order of their names' registration."""
    from harness import engines
    from harness.errors import UserError

    out = []
    for name in engines.names():
        try:
            engine = engines.get(name)
            can = engine.availability(device)
            version = engine.version() if can.build is None or can.run is None else "-"
            out.append(Diagnosis(name, version, can.build, can.run))
        except UserError as error:
            out.append(Diagnosis(name, "-", str(error), str(error)))
    return out


def visible_device() -> str:
    """Return `cuda` where torch sees a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
