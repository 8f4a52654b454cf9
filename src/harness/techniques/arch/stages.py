"""The stages of a network, and the router between them: what is exported and built separately, and which samples go on.

A network is one stage unless its module has a `router` and a method `stages(image_size)`, as what a technique returns
that splits a network has. Everything else (build, runner, verification, accuracy, serving) loops over the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.networks.inputs import LOGITS, Inputs, image_inputs, named_outputs

if TYPE_CHECKING:
    import torch
    from torch import nn

LAST_HEAD = LOGITS  # the output of the last stage


@dataclass(frozen=True)
class Stage:
    """One network to export, with a dynamic batch. The one input of a later stage is an output of the one before it."""

    name: str  # whole, or what the technique calls it
    module: nn.Module
    inputs: Inputs
    output_names: tuple[str, ...]

    def run(self, values: Sequence[torch.Tensor], call: Callable[..., Any] | None = None) -> dict[str, torch.Tensor]:
        """Return the outputs by name; `call` is what a compiler made of `module`, to be called instead of it."""
        given = self.inputs.call(self.module if call is None else call, values)
        return dict(zip(self.output_names, named_outputs(given).values(), strict=True))


@dataclass(frozen=True)
class Router:
    """Decides after each stage but the last which samples leave. This one belongs to a network in one stage.

    A subclass is a frozen dataclass of numbers and texts, since it travels to workers as JSON. It sets `heads` and
    overrides `leaves` and `share_reaching`; the other methods have defaults. Stages are counted from 0, and logits are
    numpy arrays or torch tensors.
    """

    heads: ClassVar[tuple[str, ...]] = (LAST_HEAD,)  # of each stage, the output that a sample which leaves there gets
    # Python with numpy alone that decides as `leaves` does, where this project is not: it defines
    # `leaves(router, stage, logits)`, with the router's fields as a dict; "": the network can't be taken away
    loader: ClassVar[str] = ""

    @property
    def counts_are_known(self) -> bool:
        """Whether the batch size alone says how many samples reach each stage, so that a GPU need not ask the host."""
        return len(self.heads) == 1

    @property
    def description(self) -> str:
        """What the router does, for the notes of a row."""
        return ""

    def leaves(self, stage: int, logits: Any) -> Any:
        """Return [B] bool, true for the samples that leave after `stage`; `logits` is that stage's head, [B, ...]."""
        raise NotImplementedError(f"{type(self).__name__} does not say who leaves after stage {stage}")

    def goes_on(self, stage: int, logits: Any) -> Any:
        """Return the places of the samples that go on after `stage`, ascending, int64."""
        mask = self.leaves(stage, logits)
        return np.flatnonzero(~mask) if isinstance(mask, np.ndarray) else (~mask).nonzero().flatten()

    def share_reaching(self, stage: int, batch_size: int | None = None) -> float:
        """Return the share of a batch that reaches `stage`: of this size, or on average (None)."""
        return 1.0

    def reaching(self, stage: int, batch_size: int) -> int:
        """Return how many of `batch_size` samples reach `stage`: exact where `counts_are_known`, else expected."""
        return round(self.share_reaching(stage, batch_size) * batch_size)

    def calibrated(self, heads: Callable[[], Mapping[str, np.ndarray]], labels: np.ndarray | None) -> Router:
        """Return the router with its thresholds chosen on samples that are not measured.

        Args:
            heads: runs the network and returns the logits of every head for all samples, [N, classes].
            labels: [N] int; None: the samples are synthetic.
        """
        return self

    def per_sample(self, heads: Mapping[str, np.ndarray]) -> Router:
        """Return the router that decides about each sample alone, as a server must; `heads` are of what is served."""
        return self

    def gmacs(self, stages: Sequence[float], batch_size: int | None = None) -> float:
        """Return the mean 10^9 multiply-accumulates of a sample, of those of each stage."""
        return sum(cost * self.share_reaching(number, batch_size) for number, cost in enumerate(stages))

    def cost_metrics(self, stages: Sequence[float], batch_size: int) -> dict[str, float]:
        """Return what the router adds to a cell's costs; `stages` are the 10^9 multiply-accumulates of each."""
        return {}

    def fidelity_metrics(self, left_after: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """Return how the decisions of a cell, [N] int, differ from those of its network in fp32 eager."""
        return {"exit_flips": int((left_after != reference).sum())}

    def accuracy_metrics(
        self, left_after: np.ndarray, right: np.ndarray, heads: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Return how right those are that left before the last stage and those that did not, and each head on all.

        `left_after` is [N] int, `right` [N] bool, `heads` [N] bool by head: whether its answer is right.
        """
        early = left_after < len(self.heads) - 1
        out = {"accuracy/exit_share": float(early.mean())}
        for name, who in (("exited_top1", early), ("stayed_top1", ~early)):
            if who.any():
                out[f"accuracy/{name}"] = float(right[who].mean())
        return out | {self.head_metric(name): float(found.mean()) for name, found in heads.items()}

    def head_metric(self, head: str) -> str:
        """Return the metric that the accuracy of one head on all samples is called."""
        return "accuracy/last_head_top1" if head == LAST_HEAD else f"accuracy/{head}_top1"

    def load_metrics(
        self, early_share: float, stages: Sequence[float], saturated_per_s: Mapping[str, float]
    ) -> dict[str, float]:
        """Return what the router adds to a cell under load.

        `early_share` of the requests left before the last stage; `saturated_per_s` is throughput by who leaves:
        measured, none, all.
        """
        out = {"load/exit_rate": early_share}
        return out | {f"load/saturated_{who}_exit_per_s": value for who, value in saturated_per_s.items()}


ONE_STAGE = Router()


@dataclass(frozen=True)
class Bound(Router):
    """A router that decides as another one does, and then lets all samples leave after the first stage, or none."""

    router: Router = ONE_STAGE
    all_leave: bool = False

    @property
    def heads(self) -> tuple[str, ...]:  # type: ignore[override]
        """The other router's."""
        return self.router.heads

    def leaves(self, stage: int, logits: Any) -> Any:
        """Return all true or all false, at the cost of the other router's decision."""
        mask = self.router.leaves(stage, logits)
        return mask | True if self.all_leave else mask & False


@dataclass(frozen=True)
class NetworkOutputs:
    """What a network computed for N samples: every head for every sample, and what a caller gets."""

    heads: dict[str, np.ndarray]  # [N, ...] float32, in the order of the stages: [N, classes] of images
    final: np.ndarray  # [N, ...] float32: of each sample the head after which it left; the first of a network's own
    left_after: np.ndarray | None = None  # [N] int, the stage after which each sample left; None: there is only one


def router_of(network: nn.Module) -> Router:
    """Return the router between the stages of `network`."""
    found = getattr(network, "router", None)
    return found if isinstance(found, Router) else ONE_STAGE


def stages(network: nn.Module, side: int | None = None) -> tuple[Stage, ...]:
    """Return the stages of `network`, in the order they run, for images of `side` pixels (None: what it was built for).

    A technique that splits a network gives the values of its first stage; they are made as those of the whole one are.
    """
    from harness.networks.shapes import output_names
    from harness.techniques.arch.anatomy import image_size, taken_by

    inputs = taken_by(network) if side is None else image_inputs(side)
    if router_of(network) is ONE_STAGE:
        names = (LAST_HEAD,) if inputs.make is None else output_names(network, inputs)
        return (Stage("whole", network, inputs, names),)
    first, *later = network.stages(image_size(network) if side is None else side)  # type: ignore[operator]
    return (replace(first, inputs=replace(inputs, specs=first.inputs.specs)), *later)


def all_heads(parts: Sequence[Stage], values: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return every head for all samples of `values` [B, ...], one an input: each goes through every stage."""
    heads: dict[str, torch.Tensor] = {}
    for stage, later in zip(parts, (*parts[1:], None), strict=True):
        outputs = stage.run(values)
        if later is not None:
            values = (outputs.pop(later.inputs.names[0]),)
        heads |= outputs
    return heads


def inputs_of_stage(
    parts: Sequence[Stage], number: int, values: Mapping[str, np.ndarray], portion: int = 8
) -> Mapping[str, np.ndarray]:
    """Return what stage `number` gets of the network's inputs [N, ...], by name, if every sample reaches it."""
    import torch

    if not number:
        return values
    found = []
    with torch.inference_mode():
        for start in range(0, len(next(iter(values.values()))), portion):
            given = [torch.from_numpy(values[name][start : start + portion]) for name in parts[0].inputs.names]
            for stage, later in pairwise(parts[: number + 1]):
                given = [stage.run(given)[later.inputs.names[0]]]
            found.append(given[0].numpy())
    return {parts[number].inputs.names[0]: np.concatenate(found)}


def routed(heads: dict[str, np.ndarray], router: Router) -> NetworkOutputs:
    """Return what a caller gets of the outputs of all heads, [B, classes] each where there is a router."""
    if len(router.heads) == 1:
        return NetworkOutputs(heads, next(iter(heads.values())))
    final = np.array(heads[router.heads[0]])
    left_after = np.zeros(len(final), dtype=np.int64)
    places = np.arange(len(final))
    for number, name in enumerate(router.heads[:-1]):
        places = places[router.goes_on(number, heads[name][places])]
        left_after[places] = number + 1
        final[places] = heads[router.heads[number + 1]][places]
    return NetworkOutputs(heads, final, left_after)
