"""Which static batch size a cell without a batcher is measured at: each is timed, the most promising one is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from harness.config import HarnessConfig, ProtocolConfig
from harness.measure.bring_up import bring_up
from harness.measure.coordinator import Handle
from harness.measure.progress import Progress
from harness.serving.requests import CellLoad, LoadScenario
from harness.serving.variants import Variant

Processes = Callable[[Sequence[Variant]], AbstractContextManager[Mapping[str, Handle]]]


def choose(
    variants: Mapping[str, Sequence[Variant]],
    config: HarnessConfig,
    settings: ProtocolConfig,
    processes: Processes,
    progress: Progress,
    scenario: LoadScenario,
) -> tuple[dict[str, Variant], dict[str, dict[int, float]]]:
    """Return one variant a role, and what each static size promised, requests/s, where there was a choice.

    A promise is a queue simulated with measured batch times; it only chooses what is then measured.
    """
    chosen, predicted = {}, {}
    for role, several in variants.items():
        if len(several) > 1:
            predicted[role] = {
                variant.plan.policy.max_batch_size: scenario.promised_per_s(
                    _timed(variant, config, settings, processes, progress)
                )
                for variant in several
            }
            best = max(predicted[role], key=lambda size: predicted[role][size])
            chosen[role] = next(one for one in several if one.plan.policy.max_batch_size == best)
        else:
            chosen[role] = several[0]
    return chosen, predicted


def _timed(
    variant: Variant, config: HarnessConfig, settings: ProtocolConfig, processes: Processes, progress: Progress
) -> CellLoad:
    """Return what a cell's batches take, in processes of their own."""
    with processes([variant]) as handles:
        bring_up([variant.task], handles, settings, progress)
        progress.stage(f"static batch {variant.plan.policy.max_batch_size}", variant.role)
        handle = handles[variant.role]
        handle.ask("ready", variant.plan, settings.worker_timeout_s)
        return CellLoad.timed(variant, handle, config, settings.worker_timeout_s)
