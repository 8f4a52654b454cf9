"""One assembled architecture: its stages, its accounting, and what identifies it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.config import ArchConfig, ModelConfig, packages
from harness.config.sources import source_digest
from harness.networks import build
from harness.networks.data.labelled import Labelled
from harness.networks.determinism import single_threaded
from harness.networks.identity import Identity, fingerprint, identity
from harness.system.errors import UserError
from harness.techniques.arch import stack
from harness.techniques.arch.accounting import Accounting, account
from harness.techniques.arch.recipe import Recipe, assemble, identity_of
from harness.techniques.arch.stages import ONE_STAGE, Router, Stage, all_heads, router_of, stages

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_SAMPLES, CALIBRATION_SEED = 64, 987_654_321  # of synthetic images: no measured input has this seed
_CHUNK = 16  # images at a time: bounds the memory at 224 pixels


@dataclass(frozen=True)
class Network:
    """One assembled architecture: its stages, its accounting, and what identifies it."""

    recipe: Recipe
    module: nn.Module
    stages: tuple[Stage, ...]
    router: Router
    accounting: Accounting
    fingerprint: str  # of its weights
    identity: Identity

    @property
    def text(self) -> str:
        """Everything that rebuilds the network and proves it: a recipe, its fingerprint and identity, as JSON."""
        proofs = {"fingerprint": self.fingerprint, "identity": self.identity.state}
        return json.dumps({"recipe": json.loads(self.recipe.to_json()), **proofs})


def network(
    model: ModelConfig,
    arch: ArchConfig,
    checkpoint: str | None = None,
    checkpoint_sha256: str = "",
    data: Labelled | None = None,
) -> Network:
    """Return an assembled network; the last few are kept, since the cells of a sweep share them.

    `checkpoint` holds the weights of the changed network. The router is calibrated on the validation images of `data`,
    without labelled data on synthetic ones.
    """
    texts = (json.dumps(asdict(part), sort_keys=True) for part in (model, arch))
    return _network(*texts, checkpoint, checkpoint_sha256, data)


@memoised
def _network(model: str, arch: str, checkpoint: str | None, checkpoint_sha256: str, data: Labelled | None) -> Network:
    given = {"model": json.loads(model), "arch": json.loads(arch), "router": None, "checkpoint": checkpoint}
    recipe = Recipe.from_json(json.dumps(given))
    module = assemble(recipe)
    found = identity_of(recipe, module)  # at once: running a network may leave traces in it
    parts, router = stages(module), router_of(module)
    if router is not ONE_STAGE:  # calibrated once, here: the router travels with the recipe
        router = calibrated(router, parts, data)
        module.router = router  # type: ignore[assignment]
        recipe = replace(recipe, router=asdict(router))
    return Network(
        recipe=recipe,
        module=module,
        stages=parts,
        router=router,
        accounting=account(module),
        fingerprint=fingerprint(module),
        identity=found,
    )


def calibrated(router: Router, parts: Sequence[Stage], data: Labelled | None) -> Router:
    """Return the router of a network of these stages with its thresholds chosen on images that are not measured."""
    if data is not None and data.validation is None:
        raise UserError("thresholds are chosen on validation images, and this data has none.")
    validation = None if data is None else data.validation
    count = CALIBRATION_SAMPLES if validation is None else validation.count

    def batch(start: int) -> tuple[torch.Tensor, ...]:
        end = min(start + _CHUNK, count)
        if validation is None:
            return tuple(values[start:end] for values in synthetic)
        return (torch.from_numpy(validation.batch(np.arange(start, end))),)

    def heads() -> dict[str, np.ndarray]:
        # one thread: each process of a sweep must find the same threshold to the last bit
        with torch.inference_mode(), single_threaded():
            chunks = [all_heads(parts, batch(start)) for start in range(0, count, _CHUNK)]
        return {name: np.concatenate([chunk[name].numpy() for chunk in chunks]) for name in chunks[0]}

    synthetic = parts[0].inputs.tensors(CALIBRATION_SAMPLES, CALIBRATION_SEED)
    return router.calibrated(heads, None if validation is None else validation.labels()[:count])


def base_identity(model: ModelConfig, arch: ArchConfig) -> list[str]:
    """Return what identifies a network before anything is prepared: the unmodified one's identity, and what changes it.

    Of the techniques their sources count, for pruning alone takes seconds; the options of both are in the config.
    """
    return [_base_identity(json.dumps(asdict(model), sort_keys=True)), source_digest(stack.sources(arch))]


@memoised
def _base_identity(model: str) -> str:
    config = ModelConfig(**json.loads(model))
    try:
        return identity(build(config, checked=True), packages.model_source(config.name)).exact
    except Exception as error:  # its quartets will fail with the reason, and a failed one is never kept
        return f"not built: {type(error).__name__}: {error}"
