"""Checkpoints: the state that a training resumes from, as tensors without pickle; never half-written.

`last.safetensors` holds network and optimiser after the last epoch, `best.safetensors` the best epoch's network; when
training is done, that one becomes `model.safetensors`, which is the only file that measurements look for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.networks.weights import fill
from harness.system.files import replacing

LAST, BEST = "last.safetensors", "best.safetensors"
STATE_KEY = "harness.state"


@dataclass(frozen=True)
class TrainingState:
    """How far a training is."""

    options: str  # what is trained and how, as JSON; another training does not go on from here
    epoch: int = 0  # how many are done
    best_epoch: int = 0
    best_score: float = -1.0  # of validation: see `loop.score_of`
    run_id: str = ""  # in MLflow
    scale: float = 0.0  # of fp16 gradients; 0: not used


def write_tensors(path: Path, state: Mapping[str, Any], notes: Mapping[str, str]) -> None:
    """Write the tensors of a state dict, which may hold more than tensors, as a .safetensors file, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(copies, temporary, dict(notes))


def save(folder: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, reached: TrainingState) -> None:
    """Write `last.safetensors`."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    write_tensors(folder / LAST, tensors, {STATE_KEY: json.dumps(asdict(reached))})


def state_in(folder: Path) -> TrainingState | None:
    """Return how far a training in `folder` is, None where none was begun."""
    notes = notes_of(folder / LAST)
    return TrainingState(**json.loads(notes[STATE_KEY])) if STATE_KEY in notes else None


def restore(folder: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put network and optimiser back to what `save` wrote."""
    tensors = load_file(folder / LAST)
    fill(
        network,
        {name.removeprefix("network/"): value for name, value in tensors.items() if name.startswith("network/")},
    )
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/", 2)
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, entry in optimiser.state.items():  # in the parameter's layout, or each step converts them
        entry |= {key: torch.empty_like(parameter).copy_(value)
                 for key, value in entry.items() if value.shape == parameter.shape and value.ndim}  # fmt: skip


def notes_of(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file, empty where there is no such file."""
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
