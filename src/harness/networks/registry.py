"""Which models there are: a name is looked up once, then it is a `ModelSpec`."""

from __future__ import annotations

from harness.config import packages
from harness.networks.model_spec import ModelSpec, registered
from harness.system.errors import UserError


def spec(name: str) -> ModelSpec:
    """Return the model called `name`: ours, another package's, a `module:function`, torchvision's or timm's.

    Raises UserError that lists the known names, and the nearest ones of torchvision's.
    """
    _load_known()
    if name in registered:
        return registered[name]
    from harness.networks import own, timm_models, torchvision_models

    if name in packages.added(packages.MODELS, registered):
        return own.from_entry_point(name)
    if ":" in name:
        return own.from_path(name)
    if name.startswith(timm_models.PREFIX):
        return timm_models.spec(name)
    if name in torchvision_models.names():
        return torchvision_models.spec(name)
    if timm_models.knows(name):
        return timm_models.spec(name)
    near = torchvision_models.nearest(name)
    raise UserError(
        f"model {name!r} is not known; the known models are {', '.join(names())}, "
        f"every classifier of torchvision's{f' (did you mean {near}?)' if near else ''}"
        f"{', of timm' if timm_models.installed() else ' (timm is not installed)'}, and your own as module:function"
    )


def names() -> tuple[str, ...]:
    """Return the names that need no look into torchvision or timm, sorted: ours and other packages'."""
    _load_known()
    return tuple(sorted([*registered, *packages.added(packages.MODELS, registered)]))


def _load_known() -> None:
    # a family registers itself on import; here, not at the top: it imports torch
    import harness.networks.densenet  # noqa: F401
