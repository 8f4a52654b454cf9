"""`harness.run`: a sweep called from Python, in a notebook or a script. Plan, checks and keys are the command line's.

What is given becomes overrides, so that a call and a command line of the same words measure the same. A model may be a
function: an importable one is called by its name in the processes that measure; any other one, as a notebook has them,
travels as a file that cloudpickle wrote, so it brings along what it refers to.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import CacheConfig, HarnessConfig, engine_options
from harness.stats.interaction import Gains, Interaction
from harness.stats.verdict import Verdict
from harness.system.counts import limits
from harness.system.errors import UserError
from harness.system.files import write_whole

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from harness.report.figures import Picture

Factory = Callable[..., "nn.Module"]
Maker = Callable[..., Any]  # of a batch of inputs, given its size

_FACTORIES = "factories"  # below cache.dir
_TRACKED = re.compile(rb"[0-9a-f]{32}")  # how cloudpickle numbers classes, at random and anew for each definition
_NEEDS_NO_QUOTES = re.compile(r"[\w./:@-]+", re.ASCII)
_MODULE = '''"""The function {name} of a notebook or a script, and what makes its inputs, as cloudpickle wrote them."""

from pathlib import Path

import cloudpickle

{name}, inputs = cloudpickle.loads(Path(__file__).with_suffix(".pickle").read_bytes())
'''


@dataclass(frozen=True)
class Sweep:
    """A sweep that has ended. Everything is read from its store, so it stays readable as long as that is there."""

    id: str  # of its parent run in MLflow
    uri: str  # of the store
    status: int  # the command line's: 0 all quartets fine, 1 some failed

    @cached_property
    def table(self) -> pandas.DataFrame:
        """One row a quartet, as `harness.load` gives it."""
        from harness.tracking.load import load, with_declared_columns

        return with_declared_columns(load(self.id, self.uri))

    @cached_property
    def interactions(self) -> dict[str, Interaction]:
        """The interaction of each quartet that has four cells, on the boundary that decides, by the quartet's name."""
        found = {}
        for row in self._study.frame.itertuples():
            stored = self._study.files.json(row.run_id, "interaction.json").get("interaction") or {}
            if row.boundary in stored:
                found[str(row.run_name)] = _interaction(stored[row.boundary])
        return found

    @cached_property
    def figures(self) -> dict[str, Picture]:
        """The report's figures by name; each has `png()` and `svg()`."""
        from harness.report.choose import Limits
        from harness.report.figures import pictures
        from harness.report.findings import find

        return pictures(find(self._study, Limits()))

    @cached_property
    def _study(self) -> Any:
        from harness.report.study import open_study

        return open_study(self.id, self.uri)

    def _repr_html_(self) -> str:
        """Return the sentences, the figures and the table, for a notebook."""
        sentences = [_plain(text) for text in self.table.get("strategy", ()) if isinstance(text, str)]
        shown = [self.figures[name] for name in ("factors", "gains") if name in self.figures]
        parts = [f"<p>{html.escape(sentence)}</p>" for sentence in sentences]
        for picture in shown:
            data = base64.b64encode(picture.png()).decode()
            parts.append(
                f'<img src="data:image/png;base64,{data}" alt="{html.escape(picture.alt)}" style="max-width:100%">'
            )
        return "\n".join([*parts, self._for_people().to_html(index=False, na_rep="-")])

    def _for_people(self) -> pandas.DataFrame:
        """Return a table of rounded figures: those of the command line's, in its words."""
        import pandas

        from harness.results.units import shared_unit, unit_of_throughput

        rows = self.table.to_dict("records")
        unit = shared_unit(unit_of_throughput(row) for row in rows if row["status"] == "FINISHED")

        def line(row: Mapping[str, Any]) -> dict[str, Any]:
            gains = {name: _rounded(row[f"gain/{column}"], "x") for name, column in _GAINS.items()}
            factor = row["interaction/factor"]
            ends = limits(row["interaction/low"], row["interaction/high"])
            return {
                "quartet": row["run_name"],
                unit: _rounded(row.get(f"throughput/{row['boundary']}"), digits=1),
                **gains,
                "factor [95% interval]": "-" if pandas.isna(factor) else f"{factor:.3f} {ends}",
                "verdict": row["verdict"] or row["status"],
                **({"why it failed": row["error"]} if row["status"] != "FINISHED" else {}),
            }

        return pandas.DataFrame([line(row) for row in rows])


_GAINS = {"arch": "arch", "hw": "hw", "expected": "expected", "both": "combined"}


def _rounded(value: float | None, unit: str = "", digits: int = 2) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}{unit}"


def run(
    model: str | Factory = "densenet121",
    arch: str | Sequence[Any] = "none",
    hw: str | Sequence[Any] = "none",
    inputs: Maker | None = None,
    **options: Any,
) -> Sweep:
    """Measure a sweep here and now, as `python -m harness` would; return its results.

    Args:
        model: a name that the command line knows, `module:function`, or a function that returns a network. It is called
            with `num_classes` and `image_size` if it has parameters of these names. Edit it, and it is measured anew.
        arch: an architecture technique; a list is a grid of them, a tuple within it a stack: ["grouped", ("grouped",
            "low_rank")].
        hw: a hardware technique, a grid or a stack in the same way.
        inputs: makes what the network takes: `inputs(batch_size)` returns a tensor, a tuple (in the order of the
            parameters of `forward`) or a dict (by their names), the batch first; a parameter `seed` gets one. None:
            what stands beside the function under that name, else square images.
        options: every option of the command line, groups as dictionaries: `batch_size=[1, 8]` (a grid),
            `engine="auto"`, `protocol={"budget_s": 10}`, `cache={"dir": "/tmp/cache"}`. An option of a group whose
            choice is named too has a dot: `**{"data": "image_folder", "data.path": "images"}`.

    Returns:
        The sweep, with its table, interactions and figures. Quartets that failed are rows with their reason.

    Raises:
        UserError: what can't be done, before any work, in one line.
        KeyboardInterrupt: the sweep is KILLED; the same call keeps what was finished.

    """
    from harness.sweep.checks import refuse_early
    from harness.sweep.command_line import compose_sweep
    from harness.system.command import quiet
    from harness.system.interruption import Interruption

    quiet()
    given = _function_of(model) if isinstance(model, str) and inputs is not None else model
    name = given if isinstance(given, str) else _importable(given, _cache_dir(options), inputs)
    overrides = overrides_of({"model": name, "arch": arch, "hw": hw, **options})
    # not entered: a notebook's Ctrl-C is its own, and a second one must not end its kernel
    interruption = Interruption()
    with _without_main():
        composed = compose_sweep(overrides)
        refuse_early(composed.jobs)
        from harness.sweep.run import run_sweep

        done = run_sweep(composed, overrides, f"harness.run({', '.join(overrides)})", interruption)
    if done.sweep_id is None:
        raise UserError("dry_run=True measures nothing, so there is no sweep: use the command line.")
    return Sweep(done.sweep_id, done.uri, done.status)


def overrides_of(given: Mapping[str, Any]) -> list[str]:
    """Return Hydra's overrides for values as Python has them: a list is a grid, a tuple a stack, a dict a group."""
    found = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            found += overrides_of({f"{name}.{inner}": choice for inner, choice in value.items()})
        elif isinstance(value, list) and name not in _list_options():
            if not value:
                raise UserError(f"{name}=[] is a grid without values: leave it out, or name some.")
            found.append(f"{name}={','.join(_word(choice) for choice in value)}")
        else:
            found.append(f"{name}={_word(value)}")
    return found


@cache
def _list_options() -> frozenset[str]:
    """Return the options whose value is itself a list."""
    declared = (option for options in engine_options().values() for option in options.values())
    found = {f"engine.{option.name}" for option in declared if "list" in str(option.kind)}

    def walk(group: Any, prefix: str) -> None:
        for entry in fields(group):
            value = getattr(group, entry.name)
            if is_dataclass(value):
                walk(value, f"{prefix}{entry.name}.")
            elif "list[" in str(entry.type):
                found.add(f"{prefix}{entry.name}")

    walk(HarnessConfig(), "")
    return frozenset(found)


def _word(value: Any) -> str:
    """Return a value in Hydra's grammar; raise UserError for what has no word in it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        text = str(value)
        return text if _NEEDS_NO_QUOTES.fullmatch(text) else json.dumps(text, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return f"[{','.join(_word(part) for part in value)}]"
    raise UserError(
        f"{value!r} is {type(value).__name__}, which no option takes: give a number, a text, a list or a tuple."
    )


def _cache_dir(options: Mapping[str, Any]) -> Path:
    group = options.get("cache")
    chosen = options.get("cache.dir") or (group.get("dir") if isinstance(group, Mapping) else None)
    return Path(chosen or os.environ.get("HARNESS_CACHE") or CacheConfig().dir).expanduser().absolute()


def _function_of(name: str) -> Factory:
    """Return the function that a `module:function` names; raise UserError for a name whose inputs are known."""
    if ":" not in name:
        raise UserError(f"inputs: model={name} takes images; give the function that makes your network, or its name.")
    from harness.networks.own_code import named_function

    factory: Factory = named_function(name)[0]
    return factory


def _importable(factory: Factory, cache_dir: Path, inputs: Maker | None = None) -> str:
    """Return `module:function` by which our processes find a factory; raise UserError where it can't travel."""
    import cloudpickle

    if not callable(factory):
        raise UserError(
            f"model={factory!r} is {type(factory).__name__}: give a name, or a function that returns a network."
        )
    if "torch" in sys.modules and isinstance(factory, sys.modules["torch"].nn.Module):
        kind = type(factory).__name__
        raise UserError(f"model is a network ({kind}): give a function that makes it, as lambda: {kind}(...).")
    if inputs is not None and not callable(inputs):
        raise UserError(f"inputs={inputs!r} is {type(inputs).__name__}: give a function of the batch size.")
    module, name = getattr(factory, "__module__", "__main__"), getattr(factory, "__qualname__", "")
    if inputs is None and module != "__main__" and name and "<" not in name and _is_found(module, name, factory):
        return f"{module}:{name}"
    try:
        pickled = cloudpickle.dumps((factory, inputs))
    except Exception as error:
        raise UserError(
            f"model: this function can't be sent to another process: {type(error).__name__}: {error}"
        ) from error
    short = re.sub(r"\W", "_", name.rpartition(".")[2].strip("<>"))
    if not short or iskeyword(short):  # a lambda, something callable
        short = "network"
    alike = _TRACKED.sub(b"", pickled)
    stem = f"{short}_{hashlib.sha256(alike).hexdigest()[:12]}"
    folder = cache_dir / _FACTORIES
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{stem}.pickle", pickled)
    write_whole(folder / f"{stem}.py", _MODULE.format(name=short))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    known = os.environ.get("PYTHONPATH", "")
    if str(folder) not in known.split(os.pathsep):  # for the processes of a launcher
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [known, str(folder)]))
    return f"{stem}:{short}"


def _is_found(module: str, name: str, factory: Factory) -> bool:
    found: Any = sys.modules.get(module)
    if getattr(found, "__file__", None) is None:
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is factory


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep child processes from running the caller's script again: nothing of it is needed in them.

    multiprocessing starts a spawned process by importing the main module, unless that has neither a spec nor a file.
    """
    main = sys.modules["__main__"]
    before: dict[str, Any] = {name: main.__dict__[name] for name in ("__spec__", "__file__") if name in main.__dict__}
    main.__dict__["__spec__"] = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(before)


def _interaction(stored: Mapping[str, Any]) -> Interaction:
    """Return an interaction from the JSON that a quartet has logged."""
    return Interaction(**{**stored, "verdict": Verdict(stored["verdict"]), "gains": Gains(**stored["gains"])})


def _plain(markdown: str) -> str:
    return markdown.replace("**", "")
