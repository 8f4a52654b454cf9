"""What a load scenario can't be asked for: checked with everything else, before any work."""

from __future__ import annotations

from harness.config import SCENARIO_RANGES, DynamicBatchingOptions, HarnessConfig, check_ranges, one_of
from harness.stats import minimum_samples
from harness.system.errors import UserError

NAMES = ("fixed", "single_stream", "offline", "server")


def check_scenario(config: HarnessConfig) -> None:
    """Raise UserError for options of a scenario that contradict each other or the scenario; LoadGen must be there."""
    asked = config.scenario
    check_ranges("scenario", asked, {"name": one_of(*NAMES)})
    options, usual = config.hw.dynamic_batching, DynamicBatchingOptions()
    if asked.name == "fixed":
        for name in ("max_queue_delay_us", "preferred_batch_sizes"):
            if getattr(options, name) != getattr(usual, name):
                raise UserError(
                    f"hw.dynamic_batching.{name}={getattr(options, name)}: a batcher needs requests; "
                    "add scenario=server (or single_stream, offline), or leave it out."
                )
        return
    if asked.rate_per_s is not None and asked.name != "server":
        raise UserError(f"scenario.rate_per_s={asked.rate_per_s}: only scenario=server has a rate of arrivals.")
    _check_numbers(config)
    _check_sizes(config)
    if config.engine.build_only:
        raise UserError(f"scenario={asked.name}: engine.build_only=true runs nothing; leave one of the two out.")
    if config.protocol.builds > 1:
        raise UserError(
            f"protocol.builds={config.protocol.builds}: load scenarios measure one build; use scenario=fixed."
        )
    if config.protocol.coursework:
        raise UserError("protocol.coursework=true: the usual recipe has no requests; use scenario=fixed.")
    from harness.serving.loadgen import require_loadgen

    require_loadgen()


def queries_needed(percentile: float, min_queries: int | None) -> int:
    """Return how many requests one test has at least: as asked, else twice what the percentile needs."""
    return 2 * minimum_samples(percentile / 100) if min_queries is None else min_queries


def _check_numbers(config: HarnessConfig) -> None:
    asked = config.scenario
    check_ranges("scenario", asked, SCENARIO_RANGES)
    if asked.min_duration_s > asked.max_duration_s:
        raise UserError(
            f"scenario.min_duration_s={asked.min_duration_s}: is longer than max_duration_s={asked.max_duration_s}."
        )
    if config.protocol.restarts > asked.repeats:
        raise UserError(
            f"protocol.restarts={config.protocol.restarts}: is more than scenario.repeats={asked.repeats}; raise those."
        )


def _check_sizes(config: HarnessConfig) -> None:
    for size in config.scenario.static_batch_sizes or ():
        if size < 1:
            raise UserError(f"scenario.static_batch_sizes={config.scenario.static_batch_sizes}: sizes are at least 1.")
    options = config.hw.dynamic_batching
    if not options.enabled:
        return
    if options.max_queue_delay_us < 0:
        raise UserError(f"hw.dynamic_batching.max_queue_delay_us={options.max_queue_delay_us}: must be at least 0.")
    from harness.techniques.hw.dynamic_batching import profile

    limits = profile(options, config)
    for size in options.preferred_batch_sizes or ():
        if not limits.min_size <= size <= limits.max_size:
            raise UserError(
                f"hw.dynamic_batching.preferred_batch_sizes={options.preferred_batch_sizes}: {size} is outside "
                f"the dynamic profile {limits.min_size}..{limits.max_size}."
            )
