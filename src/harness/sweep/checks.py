"""What can be checked of a sweep before torch is imported: its jobs each by itself, and what they must have in common.

What depends on a network, an engine or the device is for the plan: `refusals.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

from harness.config import HarnessConfig, TrainConfig
from harness.networks.data.labelled import check_data
from harness.networks.model_spec import check_weights_file
from harness.sweep.command_line import Job
from harness.sweep.devices import check_device
from harness.sweep.plan import check_options
from harness.sweep.reasons import Reasons
from harness.system.counts import counted
from harness.system.errors import UserError
from harness.techniques.finetuned import base_model

MOST_CHARACTERS = 200  # of a sweep's name


def refuse_early(jobs: Sequence[Job]) -> None:
    """Raise UserError at once where nothing of a sweep could be measured; else the plan says what is wrong with some.

    A name, a number, a file: what is wrong with them is said within a second or two, as torch and MLflow take ten.
    """
    configs = [job.config for job in jobs]
    reasons = Reasons(jobs)
    with reasons.of_all():
        check_shared(configs)
    for number, config in enumerate(configs):
        with reasons.of(number):
            check_options(config)
            check_job(config)
            check_device(config)
    if reasons.concern_all() or not reasons.able():
        reasons.raise_for(skip=False)


def check_job(config: HarnessConfig) -> None:
    """Check the files that a job names, and its sweep's name; raise UserError."""
    check_sweep_name(config.sweep_name)
    check_data(base_model(config), config.data)
    if config.train != TrainConfig():
        raise UserError("options train.* are for python -m harness.train; a measurement trains nothing.")
    if (weights := base_model(config).weights) is not None:
        check_weights_file(weights)


def check_shared(configs: Sequence[HarnessConfig]) -> None:
    """Raise UserError where jobs differ in what a sweep has once: its device, its store, its correction."""
    for name in (
        "engine.device",
        "engine.devices",
        "engine.build_only",
        "engine.build_jobs",
        "tracking",
        "cache",
        "sweep_name",
        "resume",
        "on_unsupported",
        "dry_run",
        "protocol.family",
    ):
        if any(attrgetter(name)(config) != attrgetter(name)(configs[0]) for config in configs):
            raise UserError(
                f"{name} differs between the jobs of this sweep, but a sweep has one: run one sweep for each choice."
            )


def check_sweep_name(name: str | None) -> None:
    """Raise UserError for a sweep's name that a report or an export could not use as a file's name as it is."""
    if name is None:
        return
    bad = "".join(sorted({c for c in name if c in "/\\" or not c.isprintable()}))
    if bad or name.strip(". ") == "" or len(name) > MOST_CHARACTERS:
        found = f"it has {bad!a}" if bad else f"it has {counted(len(name), 'character')}"
        raise UserError(
            f"sweep_name={name[:80]!a} is not a plain name ({found}): use 1 to {MOST_CHARACTERS} printable characters "
            "without / and \\, not dots alone."
        )


def check_writable(folder: Path, option: str) -> None:
    """Raise UserError unless files can be written in `folder`; nothing is left behind, the folder included."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option}={folder}: can't write there ({error.strerror}); choose another folder.") from None
    finally:
        for parent in made:
            with suppress(OSError):  # never made, or somebody else's files are in it by now
                parent.rmdir()
