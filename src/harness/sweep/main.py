"""A sweep from command line to exit status: 0 all quartets fine, 1 some failed, 2 nothing was run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from harness import __version__
from harness.sweep.command_line import Job, compose_first, compose_sweep, config_dir, refuse_unreadable, register_schema
from harness.system.command import INTERRUPTED, CommandParser, quiet, run_command
from harness.system.interruption import Interruption

HYDRA_ANSWERS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")

TEXT = """\
harness measures whether an architecture change and a hardware acceleration multiply,
amplify or conflict: baseline, arch, hw and combined cells, measured as one quartet.

  python -m harness -m arch=early_exit,grouped hw=fp16,fusion
  python -m harness 'arch=[grouped,low_rank]' hw=fusion batch_size=4 protocol=quick

Groups (choose with group=option)
{groups}

Options (override with key=value)
{options}
Stacks: 'arch=[grouped,low_rank]'. Options ride along: arch.grouped.groups=8.
Studies: experiment=NAME. A fleet: hydra/launcher={launchers}.
Results: make ui, or harness.load() in Python.
Other commands: python -m harness.NAME --help, NAME one of capacity, doctor, report, train, ui"""


def main(arguments: Sequence[str]) -> int:
    """Run `python -m harness ARGUMENTS`; return the exit status."""
    return run_command("harness", lambda: _run(arguments), interrupted="")  # where work was begun, it has been said


def _run(arguments: Sequence[str]) -> int:
    parsed = _parser().parse_intermixed_args(list(arguments))
    quiet()
    if parsed.version:
        print(f"harness {__version__}")
        return 0
    if parsed.help:
        print(help_text(parsed.overrides))
        return 0
    return _interruptible(arguments, parsed.overrides)


def hydra_answers(arguments: Sequence[str]) -> bool:
    """Return whether a question is for Hydra itself: what it composes, its plug-ins, a shell's completion."""
    return any(word.partition("=")[0] in HYDRA_ANSWERS for word in arguments)


def let_hydra_answer() -> int:
    """Have Hydra answer the words of this process's own command line; return the exit status."""
    import hydra

    def answer() -> int:
        overrides = [word for word in sys.argv[1:] if "=" in word]
        refuse_unreadable(overrides)
        register_schema(overrides)
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(lambda config: None)()
        return 0

    quiet()
    return run_command("harness", answer)


def _parser() -> CommandParser:
    hint = "options are written key=value, see python -m harness --help."
    parser = CommandParser("harness", hint, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")  # a grid needs no flag, but people give it
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    return parser


def _interruptible(arguments: Sequence[str], overrides: Sequence[str]) -> int:
    """Run a sweep that Ctrl-C and SIGTERM end in order: runs KILLED, no process left, how to go on."""
    with Interruption() as interruption:
        try:
            composed = compose_sweep(overrides)
            refuse_wrong_options(composed.jobs)
            from harness.sweep.run import run_sweep  # and torch with it: a wrong word is refused before

            command = shlex.join(["python", "-m", "harness", *arguments])
            return run_sweep(composed, overrides, command, interruption).status
        except KeyboardInterrupt:
            interruption.answer()
            return INTERRUPTED


def refuse_wrong_options(jobs: Sequence[Job]) -> None:
    """Raise UserError at once where each job has an option out of range; else the plan says what is wrong with some."""
    from harness.sweep.plan import check_options
    from harness.sweep.reasons import Reasons

    reasons = Reasons(jobs)
    for number, job in enumerate(jobs):
        with reasons.of(number):
            check_options(job.config)
    if not reasons.able():
        reasons.raise_for(skip=False)


def help_text(overrides: Sequence[str]) -> str:
    """Return the help, its defaults as these overrides leave them; raise UserError for what can't be composed."""
    from omegaconf import OmegaConf

    config = compose_first(overrides)
    options = OmegaConf.to_yaml(OmegaConf.masked_copy(config, [name for name in config if name != "hydra"]))
    groups = "\n".join(f"{group}: {', '.join(choices)}" for group, choices in group_choices().items())
    launchers = ",".join(sorted(path.stem for path in (config_dir() / "hydra" / "launcher").glob("*.yaml")))
    return TEXT.format(groups=groups, options=options, launchers=launchers)


def group_choices() -> dict[str, list[str]]:
    """Return the choices of every group: our files, and what other packages have registered.

    Hydra's own help copies the whole composed config once a group; this lists the same in a fraction of the time.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.object_type import ObjectType

    store = ConfigStore.instance()
    found = {}
    for folder in sorted(path for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra"):
        ours = {path.stem for path in folder.glob("*.yaml")}
        kind = store.get_type(folder.name)
        registered = (
            {name.removesuffix(".yaml") for name in store.list(folder.name)} if kind is ObjectType.GROUP else set()
        )
        found[folder.name] = sorted(ours | registered)
    return found
