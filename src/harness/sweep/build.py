"""The cells of a quartet with their engines built: each stage exported, each artifact built or fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from harness.engines import get
from harness.engines.base import BuildPlan, Graph
from harness.engines.build import Built, artifact_key, fetch_or_build
from harness.engines.export import ExportRequest, export, export_key
from harness.measure.bring_up import try_out
from harness.measure.cell import Cell, CellPlan, QuartetPlan
from harness.measure.progress import Progress
from harness.measure.verify import reference
from harness.networks.data.dataset import digest_of
from harness.networks.data.labelled import Labelled, labelled
from harness.sweep.plan import build_plan
from harness.sweep.scenarios import scenario_of
from harness.system.cache import Cache, NotCached
from harness.system.errors import CellError
from harness.techniques.arch.assembled import Network, network
from harness.techniques.arch.stages import Router, Stage, inputs_of_stage
from harness.techniques.finetuned import base_model, weights_of
from harness.techniques.levels import BatchProfile


def build_quartet(
    plan: QuartetPlan, cache: Cache, progress: Progress, build: int = 0, references: bool = True
) -> dict[str, Cell]:
    """Return every cell of one quartet with its engines built, by role; raise CellError or UserError with the reason.

    `build` numbers replicated builds: each of them is built on its own, from the same exports. Without `references`
    the cells can't be verified, and so not be measured.
    """
    return DesignBuilder([plan], cache, progress, references).quartet(plan, build)


@dataclass(frozen=True)
class EngineFound:
    """One engine that a cell needs: what is in the cache of it."""

    key: str  # the same for the same engine
    engine: str
    seconds: float | None  # that building it took; None: it is to be built


def look_up(plan: QuartetPlan, cell: CellPlan, cache: Cache, build: int = 0) -> list[EngineFound]:
    """Return the engines that a cell needs, one a stage; `cache` is one that only reads, so nothing is built."""
    cell = _numbered(cell, build)
    data = None
    with suppress(NotCached):  # without its images a router is not calibrated, and other engines may be built for it
        data = labelled(base_model(plan.config), plan.config.data, cache)
    weights = weights_of(plan.config, cell.arch)
    net = network(weights.model, cell.arch, weights.checkpoint, weights.sha256, data)
    found = []
    for number, stage in enumerate(net.stages):
        request = _request(stage, cell, net, _calibrated_on(plan, cell, data))
        stand_in = Graph(Path(), export_key(stage.module, net.identity.exact, request), (), (), 0)
        seconds = None
        requested = _stage_plan(plan, cell, net, number, stand_in)
        with suppress(NotCached):
            graph, _, _ = export(stage.module, net.identity.exact, request, cache)
            seconds = fetch_or_build(_stage_plan(plan, cell, net, number, graph), cache).seconds
        found.append(EngineFound(artifact_key(requested), cell.engine, seconds))
    return found


class DesignBuilder:
    """Builds the cells of quartets that are measured side by side, each distinct one once."""

    def __init__(self, plans: Sequence[QuartetPlan], cache: Cache, progress: Progress, references: bool = True) -> None:
        self._cache, self._progress, self._references = cache, progress, references
        self._names = cell_names(plans)
        self._built: dict[tuple[str, int, int], Cell | Exception] = {}
        self._data: dict[str, Labelled | None] = {}

    def quartet(self, plan: QuartetPlan, build: int = 0) -> dict[str, Cell]:
        """Return the cells of a quartet by role, with references unless nothing is to be run.

        Raises CellError or UserError with the reason of the first of its cells that can't be built.
        """
        return {cell.role: self._cell(plan, cell, build) for cell in plan.cells}

    def _cell(self, plan: QuartetPlan, cell: CellPlan, build: int) -> Cell:
        key = _key(plan, cell, build)
        if key not in self._built:
            try:
                self._built[key] = self._build(plan, cell, build)
            except Exception as error:  # of this cell: the quartets that don't need it go on
                self._built[key] = error
        found = self._built[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _build(self, plan: QuartetPlan, cell: CellPlan, build: int) -> Cell:
        config = plan.config
        where = repr((config.model, config.data))
        if where not in self._data:
            self._data[where] = labelled(base_model(config), config.data, self._cache)
        data, name = self._data[where], self._names.get(repr(cell), cell.role)
        self._progress.stage("assemble", cell.role)
        cell = _numbered(cell, build)
        weights = weights_of(config, cell.arch)
        net = network(weights.model, cell.arch, weights.checkpoint, weights.sha256, data)
        built = replace(_build_the_most(plan, cell, net, data, self._cache, self._progress), name=name)
        if built.expected is not None or config.engine.build_only or not self._references:
            return built
        self._progress.stage("compute the reference", cell.role)
        return replace(built, expected=reference(net, config, data))


def _key(plan: QuartetPlan, cell: CellPlan, build: int) -> tuple[str, int, int]:
    """Return what tells a cell from the others of its design; a load scenario tries several batch sizes."""
    return repr(cell), plan.config.batch_size, build


def cell_names(plans: Sequence[QuartetPlan]) -> dict[str, str]:
    """Return a name for each distinct cell, by its `repr`: its role in a quartet alone, else what is on in it."""
    names: dict[str, str] = {}
    for plan in plans:
        shown = {"arch": "+".join(plan.arch), "hw": "+".join(plan.hw), "combined": plan.label}
        for cell in plan.cells:
            if repr(cell) in names:
                continue
            name = cell.role if len(plans) == 1 else shown.get(cell.role, cell.role)
            again = sum(taken.partition(" #")[0] == name for taken in names.values())  # other options of a technique
            names[repr(cell)] = f"{name} #{again + 1}" if again else name
    return names


def _numbered(cell: CellPlan, build: int) -> CellPlan:
    """Return a cell of one of several replicated builds."""
    if not build:
        return cell
    instance = f"{cell.levels.instance} build {build}".strip()
    return replace(cell, levels=replace(cell.levels, instance=instance, replica=build))


def _build_the_most(
    plan: QuartetPlan, cell: CellPlan, net: Network, data: Labelled | None, cache: Cache, progress: Progress
) -> Cell:
    """Build a cell; with `fusion` on, at the highest level that builds and verifies in a worker of its own."""
    steps = get(cell.engine).capabilities.fusion_steps if cell.levels.fusion == "max" else ()
    if not steps or plan.config.engine.build_only:
        return _build_cell(plan, cell, net, data, cache, progress)
    notes: tuple[str, ...] = ()
    for step in ("", *steps):
        tried = replace(cell, levels=replace(cell.levels, fusion_step=step))
        try:
            built = _build_cell(plan, tried, net, data, cache, progress)
            progress.stage("compute the reference", cell.role)
            built = replace(built, notes=notes, expected=reference(net, plan.config, data))
            progress.stage("try out", cell.role)
            try_out(built, plan.config.protocol)
            return built
        except CellError as error:
            if step == steps[-1]:
                raise
            notes = (*notes, f"fusion below its maximum, which broke this cell ({error})")
    raise AssertionError("the last step returns or raises")


def _build_cell(
    plan: QuartetPlan, cell: CellPlan, net: Network, data: Labelled | None, cache: Cache, progress: Progress
) -> Cell:
    built: list[Built] = []
    export_s, exports_hit = 0.0, True
    for number, stage in enumerate(net.stages):
        progress.stage("export", f"{cell.role} {stage.name}")
        request = _request(stage, cell, net, _calibrated_on(plan, cell, data))
        inputs = partial(_calibration_inputs, plan, cell, net, number, data)
        graph, seconds, hit = export(stage.module, net.identity.exact, request, cache, inputs)
        export_s, exports_hit = export_s + seconds, exports_hit and hit
        what = f"{cell.role} {stage.name}"
        progress.stage("build", what)
        requested = _stage_plan(plan, cell, net, number, graph)
        try:
            built.append(fetch_or_build(requested, cache, plan.config.engine.build_limit_s, _watcher(progress, what)))
        except CellError as error:
            raise CellError(f"{cell.role}: {error}") from None
    return Cell(
        name=cell.role,
        role=cell.role,
        engine=cell.engine,
        levels=cell.levels,
        artifacts=tuple(stage.artifact for stage in built),
        device=plan.device,
        batch_size=plan.config.batch_size,
        router=net.router,
        recipe=net.text,
        accounting=net.accounting,
        threads=int(dict(built[0].artifact.plan.options).get("threads", 0)),
        input_seed=plan.config.data.seed,
        labelled=data,
        own_inputs=_own_inputs(plan, net),
        export_s=export_s,
        engine_s=sum(stage.seconds for stage in built),
        build_spread=get(cell.engine).build_spread(plan.config, plan.device),
        cache_hit=exports_hit and all(stage.hit for stage in built),
    )


def _own_inputs(plan: QuartetPlan, net: Network) -> Mapping[str, np.ndarray] | None:
    """Return what is timed or served where the author makes the inputs: no process with a clock runs that code."""
    config, inputs = plan.config, net.stages[0].inputs
    if inputs.make is None:
        return None
    served = config.scenario.sample_count if scenario_of(config).has_requests else 0
    return inputs.arrays(max(config.batch_size, served), config.data.seed)


def _stage_plan(plan: QuartetPlan, cell: CellPlan, net: Network, number: int, graph: Graph) -> BuildPlan:
    """Return the build plan of one stage of a network."""
    requested = build_plan(plan, cell, graph, net.text, net.stages[number].name)
    batch = _stage_batch(number, requested.batch, plan.config.batch_size, net.router)
    # ranges were chosen for the whole batch; a later stage has the one that its usual number is the best of
    return replace(requested, batch=batch, profiles=requested.profiles if batch == requested.batch else ())


def _watcher(progress: Progress, what: str) -> Callable[[str], None]:
    return lambda text: progress.stage("build", f"{what}, {text}")


CALIBRATION_SEED = 104_729  # synthetic images to calibrate on are neither timed nor verified with


def _calibrated_on(plan: QuartetPlan, cell: CellPlan, data: Labelled | None) -> str:
    """Return what tells the images that a cell is calibrated on from others; "" where it needs none."""
    if cell.levels.calibration is None:
        return ""
    if data is None or data.validation is None:
        return f"synthetic {plan.config.data.seed}"
    places = data.calibration_images(cell.levels.calibration.images)
    return f"{data.validation.digest} {digest_of([str(place) for place in places])}"


def _calibration_inputs(
    plan: QuartetPlan, cell: CellPlan, net: Network, number: int, data: Labelled | None
) -> Mapping[str, np.ndarray]:
    """Return what stage `number` of a cell is calibrated on, by input [N, ...]: what it gets of N samples.

    They are validation images where the data has labels, never those that it is verified or tested on.
    """
    assert cell.levels.calibration is not None
    taken, count = net.stages[0].inputs, cell.levels.calibration.images
    if data is None or data.validation is None:
        values = taken.arrays(count, plan.config.data.seed + CALIBRATION_SEED)
    else:
        values = {taken.names[0]: data.validation.batch(data.calibration_images(count))}
    return inputs_of_stage(net.stages, number, values)


def _request(stage: Stage, cell: CellPlan, net: Network, calibrated_on: str) -> ExportRequest:
    """Return how a stage is exported; what passes between two stages stays in the precision of the graph."""
    first, last = net.stages[0], net.stages[-1]
    outer = {*first.inputs.names, *net.router.heads, *last.output_names}
    names = (*stage.inputs.names, *stage.output_names)
    precision = cell.levels.precision
    fp32_io = () if cell.levels.native_io else tuple(name for name in names if name in outer)
    return ExportRequest(
        inputs=stage.inputs.specs,
        by_name=stage.inputs.by_name,
        output_names=stage.output_names,
        precision=precision,
        fp32_io=fp32_io if precision.converter else (),
        calibration=cell.levels.calibration,
        calibrated_on=calibrated_on,
    )


def _stage_batch(stage: int, batch: BatchProfile, batch_size: int, router: Router) -> BatchProfile:
    """Return the batch sizes a stage sees: only what the router lets through arrives at a later one."""
    if stage == 0:
        return batch
    usual = max(1, router.reaching(stage, batch_size))
    if not router.counts_are_known:
        return BatchProfile(1, usual, max(2, batch.max_size))
    if batch.is_static:
        return BatchProfile(usual, usual, usual)
    return BatchProfile(1, usual, max(usual, router.reaching(stage, batch.max_size), 2))
