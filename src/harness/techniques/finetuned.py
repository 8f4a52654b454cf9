"""Which weights a cell takes: the given ones, or those that `python -m harness.train` made for exactly this network.

A checkpoint is kept under a key of everything that decides what was trained: model, starting weights, architecture
stack and data. So a cell finds its own by its config alone, and never one of another network, start or data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import ArchConfig, DataConfig, HarnessConfig, ModelConfig, arch_off, packages
from harness.networks.data import UNLABELLED
from harness.system.cache import file_sha256, key_of
from harness.system.errors import UserError
from harness.techniques import arch

WEIGHTS = "model.safetensors"  # in a checkpoint's folder: the best epoch's
# they choose who leaves, not what is trained
_POLICY = tuple(f"arch.early_exit.{name}" for name in ("decision", "exit_share", "threshold", "max_accuracy_drop"))


@dataclass(frozen=True)
class Weights:
    """What a network is made from."""

    model: ModelConfig  # `weights` filled in, where the unmodified model was trained
    checkpoint: str | None = None  # file of the changed network's own weights; None: what the techniques leave
    sha256: str = ""  # of `checkpoint`


def weights_of(config: HarnessConfig, stack: ArchConfig) -> Weights:
    """Return what the network of `config` with the architecture stack `stack` is made from."""
    model = base_model(config)
    if config.checkpoints.use == "never" or not trained_parts(stack):
        return Weights(model)
    path = folder_of(config, stack) / WEIGHTS
    return Weights(model, str(path), file_sha256(path)) if path.is_file() else Weights(model)


def base_model(config: HarnessConfig) -> ModelConfig:
    """Return the unmodified model, with the weights that were trained from the given ones where there are such."""
    if config.checkpoints.use == "never" or config.data.name == UNLABELLED:
        return config.model
    path = _folder(config, config.model, arch_off()) / WEIGHTS
    return replace(config.model, weights=str(path)) if path.is_file() else config.model


def folder_of(config: HarnessConfig, stack: ArchConfig) -> Path:
    """Return the folder of a network's checkpoint, there or not."""
    start = base_model(config) if trained_parts(stack) else config.model
    return _folder(config, start, stack)


def trained_parts(stack: ArchConfig) -> tuple[str, ...]:
    """Return the techniques that make another network; `identity` is the same one."""
    return tuple(name for name in arch.enabled(stack) if name != "identity")


def weights_identity(config: HarnessConfig) -> list[str]:
    """Return what changes when a quartet's weights do."""
    found = [weights_of(config, stack) for stack in (arch_off(), config.arch)]
    return [f"{_origin(weights.model)} {weights.sha256}" for weights in found]


def check_weights(configs: Sequence[HarnessConfig]) -> None:
    """Raise UserError where cells must have weights of their own and lack them, or an option is none."""
    for config in configs:
        _check_answers_count(config)
        if config.checkpoints.use != "require":
            continue
        for stack in (arch_off(), config.arch):
            found = weights_of(config, stack)
            parts = trained_parts(stack)
            if found.checkpoint is None and (parts or found.model.weights is None):
                raise UserError(
                    f"checkpoints.use=require: {'+'.join(parts) or 'the unmodified model'} has no trained weights in "
                    f"{config.checkpoints.dir}\nTrain them: {train_command(config, parts)} with the same options of "
                    "model, arch and data, or use checkpoints.use=auto."
                )


def _check_answers_count(config: HarnessConfig) -> None:
    """Raise UserError for an option that depends on a network's answers if its weights are untrained."""
    if not (option := arch.option_by_answers(config.arch)):
        return
    found = weights_of(config, config.arch)
    if reason := untrained(found.model, config.arch, found.checkpoint):
        raise UserError(
            f"{option} depends on the network's answers, and {reason}.\n"
            f"Train it: {train_command(config, trained_parts(config.arch))} with the same "
            f"options of model, arch and data, or leave {option} out."
        )


def untrained(model: ModelConfig, stack: ArchConfig, checkpoint: str | None) -> str:
    """Return why a network made from these has weights that nothing was learnt in, so no accuracy; "" if it has one.

    Of a network of the user's own, whose function may load weights, nothing is known: it counts as trained.
    """
    if checkpoint is not None:
        return ""
    if parts := [name for name in trained_parts(stack) if arch.needs_training(name)]:
        verb = "needs" if len(parts) == 1 else "need"
        return f"{'+'.join(parts)} {verb} training, and no trained weights of this stack were found or requested"
    if model.weights is None and not packages.model_source(model.name):
        return f"its weights are random (seed {model.seed})"
    return ""


def not_finetuned(model: ModelConfig, stack: ArchConfig, checkpoint: str | None) -> str:
    """Return what to know of a network's accuracy that is one, but not of weights trained for this very network."""
    if checkpoint is not None:
        return ""
    parts = trained_parts(stack)
    out = [f"of {'+'.join(parts)} as the given weights leave it, without training of its own"] if parts else []
    if model.weights is None:
        out.append(f"of the weights that {model.name} came with, trained or not")
    return "; ".join(out)


def train_command(config: HarnessConfig, parts: Sequence[str]) -> str:
    """Return the command that trains a network of this config."""
    chosen = f" 'arch=[{','.join(parts)}]'" if parts else ""
    return f"python -m harness.train model={config.model.name} data={config.data.name}{chosen}"


def _folder(config: HarnessConfig, model: ModelConfig, stack: ArchConfig) -> Path:
    parts = trained_parts(stack)
    named = "-".join((model.name, "+".join(parts) or "none", config.data.name, _key(model, stack, config.data)[:12]))
    # absolute: a worker, or a later run from elsewhere, must find the same file
    return Path(config.checkpoints.dir).expanduser().absolute() / named


def _key(model: ModelConfig, stack: ArchConfig, data: DataConfig) -> str:
    options: dict[str, Any] = {
        name: value
        for name, value in arch.flat_options(stack).items()
        if name not in _POLICY and not name.startswith("arch.identity")
    }
    # which images are timed or tested decides nothing of what was learnt
    learnt_from = {name: value for name, value in asdict(data).items() if name not in ("seed", "limit")}
    shape = {"name": model.name, "image_size": model.image_size, "num_classes": model.num_classes}
    return key_of({"model": shape, "start": _origin(model), "arch": options, "data": learnt_from})


def _origin(model: ModelConfig) -> str:
    """Return what tells starting weights apart: a file's content, a name, or the seed of random ones."""
    if model.weights is None:
        return f"random {model.seed}"
    path = Path(model.weights).expanduser()
    return file_sha256(path) if path.is_file() else model.weights
