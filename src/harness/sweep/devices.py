"""What a sweep runs on: its device, the GPUs it is spread over, and whether a named engine can run there.

Most of it is known before torch is imported: NVML and the driver's library tell whether there is a GPU at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import EngineConfig, HarnessConfig, packages
from harness.engines import PREFERENCE, get
from harness.measure.lock import visible_devices
from harness.networks.own_code import of_another_package
from harness.sweep.plan import check_boundary
from harness.system.counts import counted
from harness.system.errors import UserError
from harness.system.machine import has_cuda_gpu


def check_device(config: HarnessConfig) -> None:
    """Check what a job requests of the device, as far as that is known without torch; raise UserError."""
    engine = config.engine
    device = engine.device if engine.device == "cpu" else {True: "cuda", False: "cpu", None: ""}[has_cuda_gpu()]
    if not device:  # torch will tell
        return
    _check_requested(engine.device, device)
    devices_of(engine, device)
    check_boundary(config, device)
    if device == "cpu" and engine.name != "auto" and (reason := unable(config, engine.name, device)):
        raise UserError(reason + alternative(config, engine.name, device))


def device_of(config: HarnessConfig) -> str:
    """Return cpu or cuda; raise UserError if a GPU was requested and there is none."""
    import torch

    requested = config.engine.device
    found = "cuda" if torch.cuda.is_available() else "cpu"
    _check_requested(requested, found)
    return found if requested == "auto" else requested


def _check_requested(requested: str, found: str) -> None:
    if requested == "cuda" != found:
        raise UserError("engine.device=cuda: torch sees no CUDA GPU here; use engine.device=cpu or auto.")


def devices_of(config: EngineConfig, device: str) -> tuple[str, ...]:
    """Return the devices that a sweep is spread over, as CUDA_VISIBLE_DEVICES names them; () for the usual one.

    Raises:
        UserError: one of them is not there.

    """
    if config.devices == "one":
        return ()
    found = visible_devices(device)
    if config.devices == "all":
        return found if len(found) > 1 else ()
    numbers = config.devices if isinstance(config.devices, list) else [config.devices]
    if found == ("cpu",):
        why = "there is no GPU here to choose from; drop it."
        if config.device == "cpu":
            why = "engine.device=cpu uses no GPU; drop either."
        raise UserError(f"engine.devices={_text(numbers)}: {why}")
    if missing := [number for number in numbers if number >= len(found)]:
        raise UserError(
            f"engine.devices={_text(numbers)}: there is no GPU {missing[0]}; {counted(len(found), 'GPU')} can be seen "
            "here, numbered from 0."
        )
    return tuple(found[number] for number in numbers)


def _text(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def unable(config: HarnessConfig, name: str, device: str) -> str:
    """Return why an engine can do nothing of a job on this machine; "" where it may."""
    engine = get(name)
    with of_another_package(packages.ENGINES, name, "availability"):
        availability = engine.availability(device)
    reason = availability.build if config.engine.build_only else availability.run
    if reason is None:
        return ""
    able = "can build but not run here" if availability.build is None else "can't run here"
    if config.engine.build_only:
        able = "can't build here"
    return f"engine {name} {able}: {reason.rstrip('.')}."


def alternative(config: HarnessConfig, requested: str, device: str) -> str:
    """Return which engine would run instead, and how to build without running."""
    if config.engine.build_only:
        return ""
    others = [name for name in PREFERENCE[device] if name != requested]
    runs = next((name for name in others if get(name).availability(device).run is None), None)
    text = f"\nengine={runs} runs here" if runs else ""
    if get(requested).availability(device).build is None and get(requested).availability(device).run is not None:
        text += "; engine.build_only=true engine.compute_capability=8.9 builds without running"
    return text + "." if text else ""
