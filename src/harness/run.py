"""A sweep from command line to exit status: 0 all quartets fine, 1 some failed, 2 nothing was run."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from harness import __version__
from harness.compose import compose_jobs, config_dir, register_schema
from harness.errors import UserError

_HYDRA_ANSWERS = ("help", "hydra_help", "cfg", "info", "shell_completion")  # flags that Hydra answers itself


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
        if any(getattr(parsed, flag) for flag in _HYDRA_ANSWERS):
            return _hydra(arguments, lambda config: None)
        quiet()
        signal.signal(signal.SIGTERM, _terminate)
        return _sweep(arguments, parsed.overrides)
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("harness: interrupted; what was finished is kept (make ui).", file=sys.stderr)
        return 130


def _sweep(arguments: Sequence[str], overrides: Sequence[str]) -> int:
    jobs = compose_jobs(overrides)

    from harness.sweep import SweepContext, check_sweep, sweep_label

    resolved = check_sweep(jobs)

    from rich.console import Console

    from harness.ahead import build_ahead
    from harness.family import adjust
    from harness.job import run_job
    from harness.plan import plan_quartet
    from harness.report.table import print_table
    from harness.terminal import TerminalProgress
    from harness.track import finish_sweep, install_views, open_store, start_sweep
    from harness.track.load import load

    console = Console() if sys.stdout.isatty() else Console(width=140)
    config = jobs[0].config
    store = open_store(config.tracking)
    install_views(store)
    configs = [job.config for job in jobs]
    engines = [resolved.engine_of(one) for one in configs]
    plans = [plan_quartet(*one, resolved.device) for one in zip(configs, engines, strict=True)]
    name = config.sweep_name or sweep_label(plans)
    sweep_id = start_sweep(
        store,
        name,
        {"engine": ", ".join(dict.fromkeys(engines)), "command": " ".join(["python -m harness", *arguments])},
        {"jobs": len(jobs)},
    )
    context = SweepContext(
        sweep_id=sweep_id,
        name=name,
        engines=resolved.engines,
        device=resolved.device,
        total=len(jobs),
        store_uri=store.uri,
        store_root=str(store.root or ""),
        store_experiment=store.experiment,
    )
    context.publish()
    auto = resolved.engines.get("auto")
    if auto is not None and any(plan.engine == auto for plan in plans):
        console.print(f"engine={auto}: {resolved.reason}", highlight=False, soft_wrap=True)
    with TerminalProgress(console, len(jobs)) as progress:

        def job(composed: Any) -> None:
            typed = _typed(composed)
            progress.begin(plan_quartet(typed, resolved.engine_of(typed), resolved.device).label)
            progress.end(run_job(composed, context, store, progress))

        try:
            progress.begin("the sweep")
            build_ahead(configs, engines, resolved.device, progress)
            _hydra(arguments, job)
        finally:
            counts = finish_sweep(store, sweep_id)
    adjust(store, load(sweep_id, store.uri))
    print_table(console, load(sweep_id, store.uri), store.uri)
    return 0 if set(counts) == {"FINISHED"} else 1


def _terminate(number: int, frame: Any) -> None:
    raise KeyboardInterrupt  # the same orderly end as Ctrl-C: runs KILLED, no process left


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; options are written key=value, see python -m harness --help.")


def _typed(composed: Any) -> Any:
    from harness.config import from_omegaconf

    return from_omegaconf(composed)


def _hydra(arguments: Sequence[str], job: Any) -> int:
    """Let Hydra run the jobs of the command line through `job`."""
    import hydra

    register_schema()
    saved = sys.argv
    sys.argv = ["python -m harness", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()
    finally:
        sys.argv = saved
    return 0


def quiet() -> None:
    """Keep third-party warnings off the screen: a user can do nothing about them."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # worker processes too
    for name in ("torch", "onnxscript", "onnx_ir", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
