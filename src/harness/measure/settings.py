"""The settings that depend on where a quartet is measured, filled in once so that what is recorded is what was used."""

from __future__ import annotations

from dataclasses import replace

from harness.config import ProtocolConfig
from harness.stats.prior import KnownSpread

# of ln(factor): a captured graph repeats itself to 0.1%, a host does not (the measurements are in experiments/)
HALF_WIDTH = {"device": 0.01, "wall": 0.03, "end_to_end": 0.03}
CPU_RESTARTS = KnownSpread(0.022, 10)  # on two shared cores: experiments/demo
WARMUP_TOLERANCE = {"cuda": 0.01, "cpu": 0.05}


def primary_of(protocol: ProtocolConfig, device: str) -> str:
    """Return the boundary that verdicts use: the requested one, else `device` on a GPU."""
    if protocol.primary != "auto":
        return protocol.primary
    return "device" if device == "cuda" else "wall"


def resolve_protocol(protocol: ProtocolConfig, device: str) -> ProtocolConfig:
    """Return the protocol with nothing left open, for a quartet on `device` ("cpu" or "cuda")."""
    return replace(
        protocol,
        half_width=HALF_WIDTH[primary_of(protocol, device)] if protocol.half_width is None else protocol.half_width,
        warmup_tolerance=WARMUP_TOLERANCE[device] if protocol.warmup_tolerance is None else protocol.warmup_tolerance,
    )


def fallen_back(protocol: ProtocolConfig, planned: str, primary: str) -> ProtocolConfig:
    """Return the protocol for another boundary than planned: with its half-width, unless one was requested."""
    if planned == primary or protocol.half_width != HALF_WIDTH[planned]:
        return protocol
    return replace(protocol, half_width=HALF_WIDTH[primary])
