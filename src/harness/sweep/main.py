"""A sweep from command line to exit status: 0 all quartets fine, 1 some failed, 2 nothing was run."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, cast

from harness import __version__
from harness.config.described import Option, options
from harness.sweep.choices import choice_meaning, config_dir, group_choices
from harness.sweep.command_line import compose_first, compose_sweep, refuse_unreadable, register_schema
from harness.system.command import INTERRUPTED, CommandParser, quiet, run_command
from harness.system.errors import UserError
from harness.system.interruption import Interruption
from harness.system.words import suggestion

_COLUMN = 44  # of the meanings in the help
HYDRA_ANSWERS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")

TEXT = """\
harness measures whether an architecture change and a hardware acceleration multiply,
amplify or conflict: baseline, arch, hw and combined cells, measured as one quartet.

  python -m harness -m arch=early_exit,grouped hw=fp16,fusion
  python -m harness 'arch=[grouped,low_rank]' hw=fusion batch_size=4 protocol=quick

Groups (choose with group=option; --help GROUP says what each option is)
{groups}

Options (override with key=value)
{options}
Stacks: 'arch=[grouped,low_rank]'. Options ride along: arch.grouped.groups=8.
Studies: experiment=NAME. A fleet: hydra/launcher={launchers}.
Results: make ui, or harness.load() in Python.
Other commands: python -m harness.NAME --help, NAME one of capacity, doctor, export, report, train, ui"""


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
        print(help_text(parsed.overrides, shutil.get_terminal_size((120, 24)).columns))
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
            from harness.sweep.checks import refuse_early  # numpy with it, which help does without

            refuse_early(composed.jobs)
            from harness.sweep.run import run_sweep  # and torch with it: a wrong word is refused before

            command = shlex.join(["python", "-m", "harness", *arguments])
            return run_sweep(composed, overrides, command, interruption).status
        except KeyboardInterrupt:
            interruption.answer()
            return INTERRUPTED


def help_text(words: Sequence[str], width: int = 100) -> str:
    """Return the help, its defaults as overrides leave them; with the name of a group, that one's part alone.

    Raises UserError for what can't be composed, and for a group that is none.
    """
    named = [word for word in words if "=" not in word]
    found = options(composed_options([word for word in words if "=" in word]))
    sections = dict.fromkeys(option.section.partition(".")[0] for option in found)
    choices = group_choices()
    for name in named:
        if name not in sections and name not in choices:
            known = list(dict.fromkeys([*filter(None, sections), *choices]))
            near = suggestion(name, known)
            raise UserError(
                f"--help {name}: there is no such group; choose one of {', '.join(known)}{f'; {near}' if near else '.'}"
            )
    shown = named or [*choices, *sections]
    texts = [_option_text(option, width) for option in found if option.section.partition(".")[0] in shown]
    if named:
        chosen = [_choice_text(group, name, width) for group in choices if group in shown for name in choices[group]]
        return "\n".join(filter(None, [*chosen, *texts]))
    groups = "\n".join(f"{group}: {', '.join(names)}" for group, names in choices.items())
    launchers = ",".join(sorted(path.stem for path in (config_dir() / "hydra" / "launcher").glob("*.yaml")))
    return TEXT.format(groups=groups, options="\n".join(filter(None, texts)), launchers=launchers)


def composed_options(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the first job's options as plain dictionaries; raise UserError for what can't be composed."""
    from omegaconf import OmegaConf

    config = compose_first(overrides)
    plain = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [name for name in config if name != "hydra"]), resolve=True
    )
    return cast("Mapping[str, Any]", plain)


def _option_text(option: Option, width: int) -> str:
    """Return an option as it is typed, and what it means beside or below it; "" for the switch of a technique."""
    if option.name.endswith(".enabled"):
        return ""
    default = "null" if option.default is None else option.default
    typed = f"{option.name}={str(default).lower() if isinstance(default, bool) else default}"
    meaning = re.sub(r"\bNone\b", "null", option.meaning)  # as the command line writes it
    return _entry(typed, f"{meaning} [{option.unit}]" if option.unit else meaning, width)


def _choice_text(group: str, choice: str, width: int) -> str:
    """Return a choice of a group as it is typed, and what it is."""
    return _entry(f"{group}={choice}", choice_meaning(group, choice), width)


def _entry(typed: str, meaning: str, width: int) -> str:
    lines = textwrap.wrap(meaning, max(30, width - _COLUMN), break_on_hyphens=False)
    if len(typed) < _COLUMN - 1 and lines:
        typed, lines = f"{typed:<{_COLUMN}}{lines[0]}", lines[1:]
    return "\n".join([typed, *(" " * _COLUMN + line for line in lines)])
