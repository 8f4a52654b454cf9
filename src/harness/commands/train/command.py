"""`python -m harness.train`: train the networks of a grid on labelled data; the measurement's options choose them.

  python -m harness.train model=densenet_tiny data=digits                    the unmodified model, first
  python -m harness.train -m model=densenet_tiny data=digits arch=grouped,early_exit   then what the techniques make
  python -m harness      -m model=densenet_tiny data=digits arch=grouped,early_exit hw=fusion   finds their weights

A changed network starts from the unmodified one's weights (model.weights, or those trained before) and follows its
answers (train.teacher=auto). To resume a killed training, run the same command again.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness import networks as models
from harness.config import HarnessConfig, ModelConfig, TrainConfig
from harness.networks.data import LABELLED
from harness.networks.data.labelled import check_data, opened
from harness.sweep.command_line import compose_jobs
from harness.sweep.plan import check_config, check_options
from harness.system.command import CommandParser, quiet, run_command
from harness.system.counts import counted
from harness.system.errors import CellError, UserError, kind_and_first_line
from harness.system.tables import new_console
from harness.techniques import arch
from harness.techniques.finetuned import base_model, folder_of

if TYPE_CHECKING:
    from torch import nn


def main(arguments: Sequence[str]) -> int:
    """Train what the overrides mean; return 0, 1 if one training diverged, 2 for a wrong request."""
    interrupted = "interrupted; to resume from the last epoch, run the same command."
    return run_command("harness.train", lambda: _run(arguments), interrupted)


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    quiet()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same orderly end as Ctrl-C
    _refuse_idle_options(options.overrides)
    configs = [job.config for job in compose_jobs(options.overrides)]
    for config in configs:
        check_options(config)
    return _train_all(configs)


_TAKEN = ("model", "arch", "data", "train", "checkpoints", "cache", "tracking", "experiment", "hydra")


def _refuse_idle_options(overrides: Sequence[str]) -> None:
    """Refuse an option of a measurement: it would change nothing, and look as if it did."""
    known_groups = {field.name for field in fields(HarnessConfig)} | {"batch"}  # others are Hydra's to refuse
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        known = key.partition(".")[0].partition("/")[0] in _TAKEN or key == "engine.device"
        if not known and key.partition(".")[0] in known_groups and override != "hw=none":  # what a preset may have on
            hint = "; to begin anew, train.resume=never" if key == "resume" else ""
            raise UserError(
                f"{override}: a training takes only the options of {', '.join(_TAKEN[:7])}, and engine.device{hint}."
            )


def _parser() -> CommandParser:
    options = ", ".join(f"train.{field.name}={field.default}" for field in fields(TrainConfig))
    parser = CommandParser(
        "harness.train",
        description=__doc__,
        epilog=f"Options: {options}; model, arch, data, engine.device, checkpoints.dir as in python -m harness --help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="accepted for a grid; a grid needs no flag")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for python -m harness")
    return parser


def _train_all(configs: Sequence[HarnessConfig]) -> int:
    from harness.commands.train.command import check_training
    from harness.sweep.checks import check_writable
    from harness.sweep.devices import device_of
    from harness.system.locks import check_folder
    from harness.tracking import open_store

    device = device_of(configs[0])
    check_training(configs, device)
    check_writable(Path(configs[0].checkpoints.dir), "checkpoints.dir")
    check_folder()
    store = open_store(configs[0].tracking)
    console = new_console()
    failed = 0
    # the unmodified model first: the others start from it and learn from its answers
    for config in sorted(configs, key=_is_changed):
        failed += not _train_one(config, device, store, console)
    return 1 if failed else 0


def _is_changed(config: HarnessConfig) -> bool:
    from harness.techniques.finetuned import trained_parts

    return bool(trained_parts(config.arch))


def _train_one(config: HarnessConfig, device: str, store: Any, console: Console) -> bool:
    """Train one network and say how it went; return whether it went well."""
    from harness.commands.train.job import train_job
    from harness.commands.train.loop import Epoch

    name = folder_of(config, config.arch).name
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=config.train.epochs)

        def report_epoch(epoch: Epoch) -> None:
            top1 = ", ".join(f"{head} {value:.2%}" for head, value in epoch.top1.items())
            progress.update(task, completed=epoch.number, description=f"{name}: {top1}")
            if epoch.is_best and not console.is_terminal:
                how = f"loss {epoch.loss:.4f}, validation {top1}, {epoch.images_per_s:.0f} images/s"
                console.print(f"  epoch {epoch.number}: {how}", highlight=False, soft_wrap=True)

        def began(what: str) -> None:
            console.print(f"{name}: {what}", highlight=False, soft_wrap=True)

        try:
            found = train_job(config, device, store, began, report_epoch)
        except CellError as error:
            console.print(f"{name}: FAILED: {error}", style="red", highlight=False, soft_wrap=True)
            return False
    top1 = ", ".join(
        f"{head} {share.value:.2%} [{share.low:.2%}, {share.high:.2%}]" for head, share in found.test_top1.items()
    )
    verb = (
        "was trained before" if found.was_there else f"best of {counted(found.epochs, 'epoch')} was {found.best_epoch}"
    )
    console.print(
        f"{name}: {verb}; top-1 on {counted(found.images, 'test image')}: {top1}", highlight=False, soft_wrap=True
    )
    console.print(f"  {found.path}", highlight=False, soft_wrap=True)
    return True


def check_training(configs: Sequence[HarnessConfig], device: str) -> None:
    """Raise UserError for the first config that can't be trained."""
    from harness.commands.train.job import check_overwrite

    settings: dict[Path, TrainConfig] = {}
    for config in configs:
        check_config(config)
        if settings.setdefault(folder_of(config, config.arch), config.train) != config.train:
            raise UserError(
                "train.* differs between jobs that train the same network: run one for each checkpoints.dir."
            )
        _check_options(config, device)
        if config.data.name not in LABELLED:
            raise UserError(f"data={config.data.name} has no labels to learn from: use data={', '.join(LABELLED)}.")
        base = base_model(config)
        check_data(base, config.data)
        data = opened(config.data)
        assert data is not None
        for part, use in (("train", "learn from"), ("validation", "choose the best epoch by")):
            if not len(data.parts[part]):
                raise UserError(f"data={config.data.name}: there is no image to {use}; see data.split_shares.")
        if arch.enabled(config.arch) == ("identity",):
            raise UserError("arch=identity is the unmodified model: train that with arch=none.")
        network = models.build(base)
        arch.check_stack(network, config.arch)
        batch_size = min(config.train.batch_size, len(data.parts["train"]))
        _check_batch(network, batch_size)
        _check_answers(network, base, min(batch_size, 2))
        check_overwrite(config)


def _check_batch(network: nn.Module, batch_size: int) -> None:
    """Raise UserError where batch norms would see one image alone, of whose last feature map no variance is left."""
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
    if batch_size < 2 and any(isinstance(part, norms) for part in network.modules()):
        raise UserError(
            f"{type(network).__name__} has batch norms, which learn from 2 images or more at a time, and its batches "
            f"have {batch_size}: set train.batch_size to 2 or more."
        )


def _check_answers(network: nn.Module, model: ModelConfig, batch_size: int) -> None:
    """Raise UserError unless `network` gives its logits alone in training too; one with auxiliary classifiers doesn't.

    It is a copy that is run, for normalisation and counters go on in training.
    """
    import torch

    from harness.networks.first_run import described
    from harness.networks.inputs import image_inputs
    from harness.networks.shapes import copied

    side = model.image_size
    learning = copied(network, own_weights=False).train()
    try:
        with torch.no_grad():
            answer = learning(*image_inputs(side).tensors(batch_size))
    except Exception as error:  # whatever somebody's code does in training
        raise UserError(
            f"model={model.name} can't be run in training on images [{batch_size}, 3, {side}, {side}]: "
            f"{kind_and_first_line(error)[:180]}"
        ) from error
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (batch_size, model.num_classes):
        raise UserError(
            f"model={model.name} gives {described(answer)} in training, and the loss here is of [B, "
            f"{model.num_classes}] alone: leave auxiliary classifiers out, or give model.weights."
        )


def _check_options(config: HarnessConfig, device: str) -> None:
    if device == "cpu" and config.train.precision == "fp16":
        raise UserError("train.precision=fp16: a CPU trains in fp32 or bf16.")
