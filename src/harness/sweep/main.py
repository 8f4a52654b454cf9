"""A sweep from command line to exit status: 0 all quartets fine, 1 some failed, 2 nothing was run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from harness import __version__
from harness.sweep.command_line import compose_jobs, config_dir, register_schema
from harness.sweep.help import help_text
from harness.system.errors import UserError
from harness.system.interruption import STATUS, Interruption
from harness.system.quiet import quiet
from harness.system.secrets import redacted

_HYDRA_ANSWERS = ("hydra_help", "cfg", "info", "shell_completion")  # flags that Hydra answers itself


def main(arguments: Sequence[str]) -> int:
    """Run `python -m harness ARGUMENTS`; return the exit status."""
    from hydra._internal.utils import get_args_parser

    if "--version" in arguments:
        print(f"harness {__version__}")
        return 0
    # argparse takes positional arguments in one run only, but people put -m anywhere
    flags = [word for word in arguments if word in ("-m", "--multirun")]
    arguments = [*flags[:1], *(word for word in arguments if word not in flags)]
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    try:
        parsed = parser.parse_args(list(arguments))
        quiet()
        if parsed.help:
            print(help_text(parsed.overrides))
            return 0
        if any(getattr(parsed, flag) for flag in _HYDRA_ANSWERS):
            return _hydra(arguments, lambda config: None, parsed.overrides)
        return _interruptible(arguments, parsed.overrides)
    except UserError as error:
        print(f"harness: {redacted(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there was anything to lose
        return STATUS


def _interruptible(arguments: Sequence[str], overrides: Sequence[str]) -> int:
    """Run a sweep that Ctrl-C and SIGTERM end in order: runs KILLED, no process left, how to go on."""
    with Interruption() as interruption:
        try:
            return _sweep(arguments, overrides, interruption)
        except KeyboardInterrupt:
            interruption.answer()
            return STATUS


def _sweep(arguments: Sequence[str], overrides: Sequence[str], interruption: Interruption) -> int:
    jobs = compose_jobs(overrides)

    from harness.sweep.check import check_sweep
    from harness.sweep.fleet.launcher import choose_launcher
    from harness.sweep.run import conduct

    resolved = check_sweep(jobs)
    launcher = choose_launcher(overrides, resolved.device)
    command = shlex.join(["python", "-m", "harness", *arguments])
    words = [*arguments, *launcher.options]
    configs = [job.config for job in jobs]
    return conduct(configs, resolved, command, lambda job: _hydra(words, job, overrides), launcher, interruption)


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; options are written key=value, see python -m harness --help.")


def _hydra(arguments: Sequence[str], job: Callable[[Any], None], overrides: Sequence[str]) -> int:
    """Let Hydra run the jobs of the command line through `job`."""
    import hydra

    register_schema(overrides)
    saved = sys.argv
    sys.argv = ["python -m harness", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()
    finally:
        sys.argv = saved
    return 0
