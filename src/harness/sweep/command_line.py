"""Command line -> composed configs: every job of a sweep, composed once and type-checked before any of them runs.

A wrong word ends with one clear line and status 2, and one engine is chosen for the whole sweep. Hydra's `compose`
composes each job; `_grid` splits the grid into jobs, as Hydra's sweepers would.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.config import HarnessConfig, from_omegaconf, packages, schema
from harness.sweep.choices import config_dir, group_choices, groups
from harness.system.errors import UserError
from harness.system.words import suggestion

_LISTS = ("engine.devices",)  # options that are no grid where they have several values


@dataclass(frozen=True)
class Job:
    """One point of the grid: its overrides and its typed config."""

    overrides: tuple[str, ...]
    config: HarnessConfig
    text: str  # the composed config as YAML, as a row keeps it


@dataclass(frozen=True)
class ComposedSweep:
    """All jobs of a command line, and the settings of Hydra itself."""

    jobs: tuple[Job, ...]
    hydra: Any  # the node `hydra` of the first job


def register_schema(overrides: Sequence[str] = ()) -> None:
    """Register with Hydra the config's schema, the choices of other packages, and the models that `overrides` name."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from harness import engines
    from harness.networks.registry import register_choices
    from harness.sweep import scenarios

    ConfigStore.instance().store("schema", schema())
    for group, family in (("arch", packages.ARCH), ("hw", packages.HW)):
        for name in packages.added(family):  # ours have files in conf/
            ConfigStore.instance().store(name=name, node={name: {"enabled": True}}, group=group, package=group)
    engines.register_choices()
    scenarios.register_choices()
    register_choices(config_dir() / "model", OverridesParser.create().parse_overrides(list(overrides)))


def compose_jobs(overrides: Sequence[str]) -> list[Job]:
    """Return every job that these command-line overrides mean; raise UserError for what can't be composed."""
    return list(compose_sweep(overrides).jobs)


def compose_sweep(overrides: Sequence[str]) -> ComposedSweep:
    """Return every job of these overrides, and Hydra's own settings; raise UserError for what can't be composed."""
    from hydra import compose

    _refuse_unknown_additions(overrides)
    with composing(overrides):
        _refuse_repeated(list(overrides))
        try:
            first = _first_job(list(overrides))
            preset = _preset(list(overrides), first)
            grids = _grid([*preset, *overrides])
            composed = [] if preset else [_without_hydra(first)]  # of the first point of the grid
            composed += [compose("config", overrides=grid) for grid in grids[len(composed) :]]
            jobs = [_job(*point) for point in zip(grids, composed, strict=True)]
        except Exception:
            _refuse_wrong_values(list(overrides))
            raise
    _refuse_idle_options(overrides, [job.config for job in jobs])
    return ComposedSweep(tuple(jobs), first.hydra)


def _refuse_wrong_values(overrides: list[str]) -> None:
    """Raise UserError with all values of a grid that can't be composed, each with the options that have one value.

    Nothing if the values are not the cause: the first error then names it.
    """
    from hydra import compose

    parsed = _parsed(overrides)
    common = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    found: dict[str, None] = {}
    for override in (override for override in parsed if override.is_sweep_override()):
        for value in _choices(override):
            try:
                from_omegaconf(compose("config", overrides=[*common, value]))
            except Exception as error:  # of Hydra, OmegaConf or ours: as `composing` says it
                found[str(error) if isinstance(error, UserError) else one_line(error)] = None
    if len(found) > 1:
        raise UserError("\n".join(found))


def compose_first(overrides: Sequence[str]) -> Any:
    """Return the DictConfig of the first job of these overrides, Hydra's own node included.

    Raises UserError for what can't be composed.
    """
    with composing(overrides):
        return _first_job(list(overrides))


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Let Hydra compose inside; what it or OmegaConf raises becomes a UserError of one line."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    refuse_unreadable(overrides)
    try:
        register_schema(overrides)
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            _refuse_numbers(overrides)
            yield
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(one_line(error)) from None
    finally:
        GlobalHydra.instance().clear()


def _job(overrides: Sequence[str], composed: Any) -> Job:
    from omegaconf import OmegaConf

    return Job(tuple(overrides), from_omegaconf(composed), OmegaConf.to_yaml(composed, resolve=True))


def _first_job(overrides: list[str]) -> Any:
    """Compose the first job alone, with Hydra's own node: a sweep can't be composed."""
    from hydra import compose

    return compose(
        "config", overrides=[_first_choice(parsed) for parsed in _parsed(overrides)], return_hydra_config=True
    )


def _without_hydra(composed: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])


def _preset(overrides: list[str], first: Any) -> list[str]:
    """Return the overrides that a preset asks for and the command line says nothing of.

    They are in `hydra.sweeper.params`, where Hydra's basic sweeper looks too.
    """
    from omegaconf import OmegaConf

    params = OmegaConf.select(first, "hydra.sweeper.params") or {}
    keys = {parsed.get_key_element() for parsed in _parsed(overrides)}
    return [f"{key}={value}" for key, value in params.items() if str(key) not in keys]


def _grid(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of each job: the product of all sweeps."""
    return [list(job) for job in itertools.product(*map(_choices, _parsed(overrides)))]


def _choices(parsed: Any) -> list[str]:
    """Return an override once for each value that it sweeps over."""
    key = parsed.get_key_element()
    if key in _LISTS and parsed.is_discrete_sweep():  # 0,1 are both at once
        return [f"{key}=[{','.join(map(str, parsed.sweep_string_iterator()))}]"]
    if not parsed.is_sweep_override():
        return [f"{key}={parsed.get_value_element_as_str()}"]
    if not parsed.is_discrete_sweep():
        raise UserError(f"{parsed.input_line}: a grid needs its values one by one, as in {key}=2,4,8.")
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


_STACKS = ("arch", "hw")


def _refuse_repeated(overrides: list[str]) -> None:
    """Refuse a value that stands twice in a grid, and in a stack a technique that does, or a stack."""
    for override in _parsed(overrides):
        choices = _choices(override)
        if twice := _repeated(choices):
            raise UserError(f"{override.input_line}: {twice.partition('=')[2]} stands there twice; name it once.")
        if override.get_key_element() not in _STACKS:
            continue
        for stack in (parsed.value() for parsed in _parsed(choices)):
            if not isinstance(stack, list):
                continue
            if any(isinstance(name, list) for name in stack):
                raise UserError(f"{override.input_line}: a stack is one list of techniques, as in 'hw=[fp16,fusion]'.")
            if twice := _repeated([str(name) for name in stack]):
                raise UserError(f"{override.input_line}: {twice} stands twice in one stack; name it once.")


def _repeated(values: Sequence[str]) -> str:
    """Return the first value that is there twice; "" if there is none."""
    return next((value for number, value in enumerate(values) if value in values[:number]), "")


def _first_choice(parsed: Any) -> str:
    """Return an override with a sweep replaced by its first value."""
    return _choices(parsed)[0] if parsed.is_sweep_override() else str(parsed.input_line)


def _parsed(overrides: list[str]) -> list[Any]:
    """Return Hydra's own reading of overrides; globs are expanded by what the groups hold."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    return list(OverridesParser.create(config_loader=loader).parse_overrides(overrides))


def refuse_unreadable(overrides: Sequence[str]) -> None:
    """Raise UserError for the first override that Hydra's grammar can't read, with the quotes that would cure it."""
    for override in overrides:
        error = _unreadable(override)
        if error is None:
            continue
        key = override.partition("=")[0]
        if "=" not in override:
            raise UserError(f"can't read {override!r}: write key=value{_as_a_choice(override)}")
        if _unreadable(f"{key}=1") is not None:
            raise UserError(f"unknown option {key}{_suggestion(key)}")
        quoted = _with_quotes(override)
        if quoted is not None:
            raise UserError(f"can't read {override} without quotes; quote it: {shlex.quote(quoted)}")
        raise UserError(one_line(error))


def _as_a_choice(word: str) -> str:
    """Return what a lone word was perhaps meant for: a group's choice, or an option whose value is missing."""
    holding = [group for group, choices in group_choices().items() if word in choices]
    meant = [f"{group}={word}" for group in holding] or [f"{word}=..."] * (word in _known_options())
    return (
        f"; did you mean {' or '.join(meant)}?"
        if meant
        else ", as in arch=grouped; python -m harness --help lists all."
    )


def _unreadable(override: str) -> Exception | None:
    """Return what Hydra says against an override, read alone; None where it can be read."""
    from hydra.errors import HydraException

    try:
        _parsed([override])
    except HydraException as error:
        return error
    return None


def _with_quotes(override: str) -> str | None:
    """Return an override with quotes around the values that need them; None where it is wrong in another way.

    Unquoted, Hydra's grammar knows ASCII letters, digits and some marks: no `~`, no umlaut, no second `=`.
    https://hydra.cc/docs/advanced/override_grammar/basic
    """
    key, equals, value = override.partition("=")
    if not equals or re.match(r"\w+\(|.*[{}]", value):  # no value, a function, a dictionary
        return None
    pieces = re.split(r"(\s*[\[\],]\s*)", value)  # a list's or a sweep's values, and what is between them
    quoted = f"{key}=" + "".join(
        piece if number % 2 or not piece or _unreadable(f"{key}={piece}") is None else _in_quotes(piece)
        for number, piece in enumerate(pieces)
    )
    return quoted if _unreadable(quoted) is None else None


def _in_quotes(value: str) -> str:
    if '"' in value and "'" not in value:
        return f"'{value}'"
    return '"' + value.replace('"', '\\"') + '"'


def _refuse_idle_options(overrides: Sequence[str], configs: Sequence[HarnessConfig]) -> None:
    """Refuse an option that no job reads, of a technique, the data or a scenario: it would look as if it did something.

    Only the command line's own words: a preset may set what some of its grids don't need.
    """
    for override in overrides:
        _refuse_idle_setting(override, configs)
        match = re.match(r"\+*(arch|hw)\.(\w+)\.(\w+)=", override)
        if not match or match[3] == "enabled":
            continue
        family, technique, _ = match.groups()
        if not any(getattr(getattr(config, family), technique).enabled for config in configs):
            raise UserError(
                f"{override}: {technique} is on in no cell of this sweep; add {family}={technique}, or drop the option."
            )


def _refuse_idle_setting(override: str, configs: Sequence[HarnessConfig]) -> None:
    """Refuse `data.X=` and `scenario.X=` where the data and the scenario of no job read X."""
    from harness.networks.data import READ
    from harness.sweep.scenarios import scenario_of

    match = re.match(r"\+*(data|scenario)\.(\w+)=", override)
    if not match or match[2] == "name":
        return
    group, option = match.groups()
    named = sorted({getattr(config, group).name for config in configs})
    if group == "data":
        able = [name for name in READ if option in READ[name]]
        idle = able and not any(name in able or name not in READ for name in named)
    else:
        able = ["server"]
        idle = not any(scenario_of(config).has_requests for config in configs)
    if idle:
        raise UserError(
            f"{override}: {group}={','.join(named)} reads no such option; add {group}={able[0]}, or drop it."
        )


def _refuse_unknown_additions(overrides: Sequence[str]) -> None:
    """Refuse `+name=value` for a name that is not an option: Hydra would add it without a word."""
    for override in (override for override in overrides if override.startswith("+")):
        key = override.lstrip("+").partition("=")[0]
        if key not in _known_options() and not key.startswith("hydra"):
            raise UserError(f"unknown option {key}{_suggestion(key)}")


def one_line(error: Exception) -> str:
    """Return Hydra's or OmegaConf's message as one line that names what was wrong and what would be right."""
    whole = f"{error}\n{error.__cause__ or ''}"
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    unfound = re.search(r"Could not (?:find|load) '([^']+)/([^'/]*)'", whole)
    if unfound and (options := group_choices().get(unfound[1]) or _listed(whole)):
        return _unknown_choice(unfound[1], unfound[2], options)
    unknown = re.search(r"Could not override '([^']+)'", whole)
    if unknown and re.search(r"Key '[^']+' (is not in struct|not in)", whole):
        return f"unknown option {unknown[1]}{_suggestion(unknown[1])}"
    if "Config group override" in text:
        return f"can't read an argument: {text}; write key=value."
    syntax = re.search(
        r"(no ?viable ?alt|mismatched input|extraneous input|token recognition|missing EQUAL)", whole, re.IGNORECASE
    )
    if syntax or text.startswith("Error parsing override"):
        text = re.sub(r" expecting \{.*", "", text.removeprefix("LexerNoViableAltException: "))
        return f"can't read an argument: {text}; write key=value, lists as 'key=[a,b]' in quotes."
    if said := _wrong_type(whole):
        return f"{text.removeprefix('Error merging override ')}: {said}"
    signs = ("could not be converted", "Invalid value", "is incompatible with type")
    wrong_type = next((line for line in lines if any(sign in line for sign in signs)), "")
    return ": ".join(part for part in (text.removeprefix("Error merging override "), wrong_type) if part)


_SHAPES = {
    "is not a subclass of": "that is a group of options, which have values of their own: NAME.OPTION=value.",
    "Cannot convert 'list' to string": "that is a list, and it takes one value.",
    "is not a ListConfig, list or tuple": "that is not a list, as in [a,b].",
}
_KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}


def _wrong_type(message: str) -> str:
    """Return in words that OmegaConf can't take a value for the type of its option; "" where that is not the cause."""
    for sign, said in _SHAPES.items():
        if sign in message:
            return said
    found = re.search(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)", message)
    if found is None or found[2] not in _KINDS:
        return ""
    value, hint = found[1], ""
    if value in ("None", "none"):
        hint = "; for none write null"
    elif value.startswith("["):
        hint = "; a grid is written without brackets: 1,2"
    return f"that is not {_KINDS[found[2]]}{hint}."


def _listed(message: str) -> list[str]:
    """Return the choices that Hydra lists, one a line: of a group of its own, hydra/launcher."""
    found = re.search(r"Available options in '[^']+':\n(.*?)\nConfig search path", message, re.DOTALL)
    return [line.strip() for line in found[1].splitlines()] if found else []


def _unknown_choice(group: str, word: str, options: Sequence[str]) -> str:
    """Return what is said of a choice that a group does not have."""
    near = suggestion(word, options)
    if not word:
        return f"{group}= names none: choose one of {', '.join(options)}."
    return f"could not find '{group}/{word}': choose one of {', '.join(options)}{f'; {near}' if near else '.'}"


def _refuse_numbers(overrides: Sequence[str]) -> None:
    """Raise UserError where the choice of a group is a number, which none is: batch=32."""
    for parsed in _parsed(list(overrides)):
        if parsed.key_or_group in groups():
            for choice in parsed.sweep_iterator() if parsed.is_sweep_override() else [parsed.value()]:
                if isinstance(choice, int | float):
                    options = group_choices()[parsed.key_or_group]
                    raise UserError(_unknown_choice(parsed.key_or_group, str(choice), options))


def _suggestion(key: str) -> str:
    near = suggestion(key, _known_options(), cutoff=0.5)
    return f": {near}" if near else "; python -m harness --help lists all."


def _known_options() -> list[str]:
    """Return the dotted names of all options and groups."""
    from omegaconf import OmegaConf

    out: list[str] = []

    def walk(node: dict[Any, Any], prefix: str) -> None:
        for name, value in node.items():
            out.append(f"{prefix}{name}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")

    options = OmegaConf.to_container(schema())
    assert isinstance(options, dict)
    walk(options, "")
    return [*out, "batch", "experiment"]
