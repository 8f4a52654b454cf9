"""A hw gain over eager contains the change of engine, and is never called by the technique's name alone."""

from __future__ import annotations

import pytest

from harness.results.estimand import contains_engine, hw_in_words, label_in_words, name_in_words, plan_hw_in_words


@pytest.mark.parametrize(
    ("hw", "engine", "reference", "words"),
    [
        (("fp16",), "inductor", "eager", "inductor + fp16"),
        (("fp16", "fusion"), "inductor", "eager", "inductor + fp16 + fusion"),
        (("fp16", "fusion"), "inductor", "engine", "fp16+fusion"),
        (("fp16",), "eager", "eager", "fp16"),  # eager over eager: nothing but the technique changed
        (("identity",), "eager", "eager", "identity"),  # the control under eager
        ((), "inductor", "eager", "none"),
    ],
)
def test_the_engine_is_named_where_the_gain_contains_it(hw, engine, reference, words):
    assert hw_in_words(hw, engine, reference) == words
    assert contains_engine(hw, engine, reference) == words.startswith("inductor")


@pytest.mark.parametrize(
    ("name", "hw", "words"),
    [
        ("grouped x fp16 b32", "fp16", "grouped x inductor + fp16 b32"),
        ("grouped x batching b4", "batching", "grouped x inductor + batching b4"),
        ("grouped x fp16", "fp16", "grouped x inductor + fp16"),
        ("grouped x none b32", "none", "grouped x none b32"),
        ("a name of its own", "fp16", "a name of its own"),
        ("grouped x fp16x b32", "fp16", "grouped x fp16x b32"),  # of another stack
    ],
)
def test_only_the_hw_stack_within_a_name_changes(name, hw, words):
    assert name_in_words(name, "grouped", hw, "inductor", "eager") == words


def test_a_plan_says_what_its_row_will_say(planned):
    over_eager = planned("arch=grouped", "hw=fusion")
    assert label_in_words(over_eager) == "grouped x onnxruntime + fusion"
    assert plan_hw_in_words(over_eager) == "onnxruntime + fusion"
    over_engine = planned("arch=grouped", "hw=fusion", "reference=engine")
    assert label_in_words(over_engine) == over_engine.label == "grouped x fusion"
    control = planned("arch=identity", "hw=identity")
    assert label_in_words(control) == control.label == "identity x identity"
