"""What a hw gain is a gain of, in words: with `reference=eager` the change of engine is in it, and then it says so."""

from __future__ import annotations

from collections.abc import Sequence

from harness.measure.cell import QuartetPlan


def contains_engine(hw: Sequence[str], engine: str, reference: str) -> bool:
    """Return whether the gain of a hw stack holds the change from one engine to another.

    Args:
        hw: the stack's techniques.
        engine: that the cells with the stack run on.
        reference: what the cells without it run on, as the param of a row says it: `eager`, or `engine` for the same.
    """
    return bool(hw) and reference not in ("engine", engine)


def hw_in_words(hw: Sequence[str], engine: str, reference: str) -> str:
    """Return a hw stack as what its gain is of: `inductor + fp16 + fusion`, or `fp16+fusion` on the same engine."""
    return " + ".join([engine, *hw]) if contains_engine(hw, engine, reference) else "+".join(hw) or "none"


def name_in_words(name: str, arch: str, hw: str, engine: str, reference: str) -> str:
    """Return a quartet's name with its hw stack in words; a name that is not made of its stacks as it is.

    Args:
        name: `grouped x fp16+fusion b32`, as a run is called.
        arch: the param of that name.
        hw: likewise, techniques joined by +.
        engine: as in `contains_engine`.
        reference: likewise.
    """
    stacks = f"{arch} x {hw}"
    if hw == "none" or not (name == stacks or name.startswith(f"{stacks} b")):
        return name
    return f"{arch} x {hw_in_words(hw.split('+'), engine, reference)}{name.removeprefix(stacks)}"


def label_in_words(plan: QuartetPlan) -> str:
    """Return a planned quartet's label with its hw stack in words."""
    return name_in_words(plan.label, "+".join(plan.arch) or "none", "+".join(plan.hw) or "none", *_engines(plan))


def plan_hw_in_words(plan: QuartetPlan) -> str:
    """Return a planned quartet's hw stack in words."""
    return hw_in_words(plan.hw, *_engines(plan))


def _engines(plan: QuartetPlan) -> tuple[str, str]:
    return plan.engine, plan.config.reference
