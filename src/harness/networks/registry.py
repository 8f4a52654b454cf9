"""Which models there are: a name is looked up once, then it is a `ModelSpec`.

`model=NAME` on the command line: presets are files in conf/model, every other name becomes a choice when it is used. So
`--help` lists the presets and what other packages register, and torchvision need not be imported for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from harness.config import packages
from harness.networks.model_spec import ModelSpec, registered
from harness.system.errors import UserError
from harness.system.words import suggestion


def spec(name: str) -> ModelSpec:
    """Return the model called `name`: ours, another package's, a `module:function`, torchvision's or timm's.

    Raises UserError that lists the known names, and the nearest one, without importing torchvision or timm for it.
    """
    if name in registered:
        return registered[name]
    from harness.networks import catalogues, own_code

    if name in packages.added(packages.MODELS, registered):
        return own_code.from_entry_point(name)
    if ":" in name:
        return own_code.from_path(name)
    if name.startswith(catalogues.TIMM):
        return catalogues.timm_spec(name)
    if catalogues.torchvision_knows(name):
        return catalogues.torchvision_spec(name)
    if catalogues.timm_knows(name):
        return catalogues.timm_spec(name)
    near = suggestion(name, [*names(), *catalogues.listed("torchvision"), *catalogues.listed("timm")])
    raise UserError(
        f"model {name!r} is not known{f': {near} The' if near else '; the'} known models are {', '.join(names())}, "
        f"every classifier of torchvision's{', of timm' if catalogues.has_timm() else ' (timm is not installed)'}, "
        f"and your own as module:function{_as_a_file(name)}"
    )


def _as_a_file(name: str) -> str:
    """Return how a function of a file is named, where somebody has named the file; else ""."""
    path = PurePath(name)
    return f": in the folder of {path.name}, model={path.stem}:FUNCTION" if path.suffix == ".py" else ""


def names() -> tuple[str, ...]:
    """Return the names that need no look into torchvision or timm, sorted: ours and other packages'."""
    return tuple(sorted([*registered, *packages.added(packages.MODELS, registered)]))


def register_choices(presets: Path, overrides: Sequence[Any] = ()) -> None:
    """Tell Hydra of the models that have no file in `presets`: other packages', and those that `overrides` name.

    `overrides` are parsed ones of Hydra's. Raises UserError for the names that no model has.
    """
    from hydra.core.config_store import ConfigStore

    files = {path.stem for path in presets.glob("*.yaml")}
    requested: list[str] = []
    for parsed in overrides:
        if parsed.key_or_group == "model":
            chosen = parsed.sweep_iterator() if parsed.is_sweep_override() else [parsed.value()]
            words = [getattr(word, "text", word) for word in chosen]  # quoted, or not
            requested += [word for word in words if isinstance(word, str)]
    requested = [path for path in requested if path and path not in files]
    unknown: list[str] = []
    for path in requested:
        try:
            spec(path)
        except UserError as error:  # all errors of a grid are reported at once
            unknown.append(str(error))
    if unknown:
        raise UserError("\n".join(dict.fromkeys(unknown)))
    for path in dict.fromkeys([*packages.added(packages.MODELS, files), *requested]):
        folder, _, name = f"model/{path}".rpartition("/")  # timm/resnet18 is in a folder, as Hydra sees it
        ConfigStore.instance().store(name=name, node={"name": path}, group=folder, package="model")
