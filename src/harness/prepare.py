"""Plan -> artifacts: assemble each network once, export its stages, build or fetch each engine, make references."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from typing import TYPE_CHECKING

from harness.accuracy.threshold import policy_on
from harness.arch.accounting import Accounting, account
from harness.arch.calibration import calibrate
from harness.arch.early_exit import EarlyExitNetwork
from harness.arch.exit_policy import ExitPolicy, exit_mask
from harness.arch.recipe import Recipe, assemble
from harness.arch.stages import Stage, stages
from harness.config import ArchConfig, HarnessConfig, ModelConfig
from harness.data.labelled import Labelled, labelled
from harness.data.synthetic import images
from harness.engines import get
from harness.engines.base import Artifact
from harness.engines.build import Built, fetch_or_build
from harness.engines.cache import Cache
from harness.engines.levels import BatchProfile
from harness.errors import CellError, UserError
from harness.export.to_onnx import ExportRequest, export
from harness.finetuned import base_model, weights_of
from harness.measure.bring_up import CellTask, try_out
from harness.measure.cell import CellSpec
from harness.measure.progress import Progress
from harness.measure.verify import Expected
from harness.models.fingerprint import fingerprint
from harness.plan import CellPlan, QuartetPlan, build_plan

if TYPE_CHECKING:
    from torch import nn

VERIFY_SEED_OFFSET = 7919  # verification inputs are never the timed ones
KEPT_REFERENCES = 4  # a batch of 256 images is 154 MB
_references: dict[tuple[object, ...], Expected] = {}


@dataclass(frozen=True)
class Network:
    """One assembled architecture: its stages, its accounting, and what identifies it."""

    recipe: Recipe
    module: nn.Module
    stages: tuple[Stage, ...]
    policy: ExitPolicy | None
    accounting: Accounting
    fingerprint: str

    @property
    def text(self) -> str:
        """Everything that rebuilds the network and proves it: a recipe and the fingerprint, as JSON."""
        return json.dumps({"recipe": json.loads(self.recipe.to_json()), "fingerprint": self.fingerprint})


@dataclass(frozen=True)
class PreparedCell:
    """A cell with its engines built."""

    plan: CellPlan
    network: Network
    artifacts: tuple[Artifact, ...]
    export_s: float
    engine_s: float
    cache_hit: bool  # every export and artifact of this cell was in the cache
    data: Labelled | None = None  # what it is timed and tested on; None: synthetic images
    notes: tuple[str, ...] = ()  # what had to be given up for it to work

    @property
    def engine_mb(self) -> float:
        """Size of all artifacts, MB."""
        return sum(artifact.size_mb for artifact in self.artifacts)

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why this cell is less than what was asked, without repetition."""
        found = [*self.notes, *(reason for artifact in self.artifacts for reason in artifact.degraded)]
        return tuple(dict.fromkeys(found))


def prepare(plan: QuartetPlan, cache: Cache, progress: Progress, build: int = 0) -> dict[str, PreparedCell]:
    """Return every cell of a quartet with its engines built, by role; raise CellError with the reason.

    `build` numbers replicated builds: each of them is built on its own, from the same exports.
    """
    cells = {}
    data = labelled(base_model(plan.config), plan.config.data, cache)
    for cell in plan.cells:
        progress.stage("assemble", cell.role)
        if build:
            instance = f"{cell.levels.instance} build {build}".strip()
            cell = replace(cell, levels=replace(cell.levels, instance=instance, replica=build))
        weights = weights_of(plan.config, cell.arch)
        net = network(weights.model, cell.arch, weights.checkpoint, weights.sha256, data)
        cells[cell.role] = _prepare_the_most(plan, cell, net, data, cache, progress)
    return cells


def tasks(plan: QuartetPlan, cells: Mapping[str, PreparedCell]) -> list[CellTask]:
    """Return what the workers are to load, each with the reference its outputs must match."""
    return [_task(plan, cell) for cell in cells.values()]


def _task(plan: QuartetPlan, cell: PreparedCell) -> CellTask:
    config = plan.config
    spec = CellSpec(
        role=cell.plan.role,
        artifacts=cell.artifacts,
        device=plan.device,
        batch_size=config.batch_size,
        policy=cell.network.policy,
        threads=int(dict(cell.artifacts[0].plan.options).get("threads", 0)),
        input_seed=config.data.seed,
        labelled=cell.data,
        recipe=cell.network.text,
    )
    return CellTask(spec, reference(cell.network, config))


def _prepare_the_most(
    plan: QuartetPlan, cell: CellPlan, net: Network, data: Labelled | None, cache: Cache, progress: Progress
) -> PreparedCell:
    """Prepare a cell; with `fusion` on, at the highest level that builds and verifies in a worker of its own."""
    steps = get(cell.engine).fusion_steps if cell.levels.fusion == "max" else ()
    if not steps or plan.config.engine.build_only:
        return _prepare_cell(plan, cell, net, data, cache, progress)
    notes: tuple[str, ...] = ()
    for step in ("", *steps):
        tried = replace(cell, levels=replace(cell.levels, fusion_step=step))
        try:
            prepared = replace(_prepare_cell(plan, tried, net, data, cache, progress), notes=notes)
            progress.stage("try out", cell.role)
            try_out(_task(plan, prepared), plan.config.protocol)
            return prepared
        except CellError as error:
            if step == steps[-1]:
                raise
            notes = (*notes, f"fusion below its most, which broke this cell ({error})")
    raise AssertionError("the last step returns or raises")


def network(
    model: ModelConfig,
    arch: ArchConfig,
    checkpoint: str | None = None,
    checkpoint_sha256: str = "",
    data: Labelled | None = None,
) -> Network:
    """Return an assembled network; the last few are kept, since the cells of a sweep share them.

    `checkpoint` holds the weights of the changed network; an exit's threshold is chosen on the validation images of
    `data`, without labelled data on synthetic ones.
    """
    texts = (json.dumps(asdict(part), sort_keys=True) for part in (model, arch))
    return _network(*texts, checkpoint, checkpoint_sha256, data)


def reference(net: Network, config: HarnessConfig) -> Expected:
    """Return all heads of a network in fp32 eager, for fresh inputs of one batch; the last few are kept.

    Two cells of a quartet are the same network, and so are cells of other quartets; a large batch takes a CPU long.
    """
    key = (net.fingerprint, net.stages[0].input_shape, net.policy, config.batch_size, config.data.seed)
    found = _references.pop(key, None) or _reference(net, config)
    _references[key] = found  # the one used last stands last
    while len(_references) > KEPT_REFERENCES:
        del _references[next(iter(_references))]
    return found


def _reference(net: Network, config: HarnessConfig) -> Expected:
    import torch

    shape = net.stages[0].input_shape
    inputs = images(config.data.seed + VERIFY_SEED_OFFSET, config.batch_size, shape)
    with torch.inference_mode():
        values = net.stages[0].module(torch.from_numpy(inputs))
        heads = dict(zip(net.stages[0].output_names, (values,) if torch.is_tensor(values) else values, strict=True))
        if len(net.stages) > 1:
            heads["logits"] = net.stages[1].module(heads.pop("features"))
    arrays = {name: value.numpy() for name, value in heads.items()}
    exited = exit_mask(arrays["exit_logits"], net.policy) if net.policy is not None else None
    return Expected(inputs, arrays, exited)


@memoised
def _network(model: str, arch: str, checkpoint: str | None, checkpoint_sha256: str, data: Labelled | None) -> Network:
    given = {"model": json.loads(model), "arch": json.loads(arch), "exit_policy": None, "checkpoint": checkpoint}
    recipe = Recipe.from_json(json.dumps(given))
    module = assemble(recipe)
    if isinstance(module, EarlyExitNetwork):  # the threshold is found once, here, and travels with the recipe
        if data is None:
            module.policy = calibrate(module, module.policy)
        else:
            if data.validation is None:
                raise UserError("an exit threshold is chosen on validation images, and this data has none.")
            module.policy = policy_on(module, recipe.arch.early_exit, data.validation)
        recipe = replace(recipe, exit_policy=module.policy)
    return Network(
        recipe=recipe,
        module=module,
        stages=stages(module),
        policy=module.policy if isinstance(module, EarlyExitNetwork) else None,
        accounting=account(module, recipe.model.image_size),
        fingerprint=fingerprint(module),
    )


def _prepare_cell(
    plan: QuartetPlan, cell: CellPlan, net: Network, data: Labelled | None, cache: Cache, progress: Progress
) -> PreparedCell:
    built: list[Built] = []
    export_s, exports_hit = 0.0, True
    for stage in net.stages:
        progress.stage("export", f"{cell.role} {stage.name}")
        graph, seconds, hit = export(stage.module, net.fingerprint, _request(stage, cell, net), cache)
        export_s, exports_hit = export_s + seconds, exports_hit and hit
        progress.stage("build", f"{cell.role} {stage.name}")
        asked = build_plan(plan, cell, graph, net.text, stage.name)
        batch = _stage_batch(stage, asked.batch, plan.config.batch_size, net.policy)
        # ranges were chosen for the whole batch; survivors have the one that their usual number is the best of
        asked = replace(asked, batch=batch, profiles=asked.profiles if batch == asked.batch else ())
        try:
            built.append(fetch_or_build(asked, cache))
        except CellError as error:
            raise CellError(f"{cell.role}: {error}") from None
    return PreparedCell(
        plan=cell,
        network=net,
        data=data,
        artifacts=tuple(one.artifact for one in built),
        export_s=export_s,
        engine_s=sum(one.seconds for one in built),
        cache_hit=exports_hit and all(one.hit for one in built),
    )


def _request(stage: Stage, cell: CellPlan, net: Network) -> ExportRequest:
    """Return how a stage is exported; what passes between two stages stays in the precision of the graph."""
    outer = {"input", "logits", "exit_logits"}
    names = (stage.input_name, *stage.output_names)
    keep = () if cell.levels.fp16_io else tuple(name for name in names if name in outer)
    return ExportRequest(
        input_name=stage.input_name,
        input_shape=stage.input_shape,
        output_names=stage.output_names,
        precision=cell.levels.precision,
        fp32_io=keep if cell.levels.precision == "fp16" else (),
    )


def _stage_batch(stage: Stage, batch: BatchProfile, batch_size: int, policy: ExitPolicy | None) -> BatchProfile:
    """Return the batch sizes a stage sees: behind an exit only the survivors of the batch arrive."""
    if stage.name != "stage2" or policy is None:
        return batch
    usual = max(1, policy.survivors(batch_size))
    if policy.decision == "threshold":  # how many survive depends on the data
        return BatchProfile(1, usual, max(2, batch.max_size))
    if batch.is_static:
        return BatchProfile(usual, usual, usual)
    return BatchProfile(1, usual, max(usual, policy.survivors(batch.max_size), 2))
