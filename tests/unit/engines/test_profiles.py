"""Real cells under their engines' own profilers: parts in the network's order, nearly all of the time attributed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from harness.engines import get
from harness.engines.base import Engine
from harness.engines.profiling import ENOUGH, SPANNING, UNKNOWN, order_of, take_profile
from harness.system.errors import CellError

WHOLE = ["stem", *(f"{kind} {n}" for n in (1, 2, 3) for kind in ("dense block", "transition")), "dense block 4", "head"]


@pytest.fixture(scope="module")
def profiled(prepared):
    """Return a function: profiled("arch=grouped", "hw=fusion") -> the profiles of all four cells, by role."""

    def make(*overrides):
        _, cells = prepared(*overrides)
        out = {}
        for role, cell in cells.items():
            with ExitStack() as stack:
                loaded = tuple(stack.enter_context(get(one.plan.engine).load(one, "cpu")) for one in cell.artifacts)
                sizes = [cell.router.reaching(number, cell.batch_size) for number in range(len(loaded))]
                out[role] = take_profile(loaded, cell.artifacts, sizes, "cpu")
        return out

    return make


@pytest.fixture(scope="module")
def grouped_fusion_profiles(profiled):
    return profiled("arch=grouped", "hw=fusion")


def known(profile):
    return [part for part in profile.parts_ms if part not in (SPANNING, UNKNOWN)]


def test_eager_and_onnxruntime_attribute_nearly_everything_to_the_same_parts(grouped_fusion_profiles):
    for role, profile in grouped_fusion_profiles.items():
        assert sorted(known(profile), key=order_of) == WHOLE, role
        assert profile.attributed >= ENOUGH, role
    assert {profile.source for profile in grouped_fusion_profiles.values()} == {
        "torch profiler",
        "onnxruntime profiler",
    }


def test_the_work_of_a_batch_fits_into_the_batch(grouped_fusion_profiles):
    for profile in grouped_fusion_profiles.values():
        assert 0 < profile.work_ms <= profile.batch_ms * 1.05
        assert 0 <= profile.moves_ms < profile.work_ms and profile.moves <= profile.kernels


def test_an_engine_that_optimises_runs_fewer_nodes_but_reorders_layouts(grouped_fusion_profiles):
    assert grouped_fusion_profiles["hw"].kernels < grouped_fusion_profiles["baseline"].kernels
    assert grouped_fusion_profiles["hw"].moves > 0


def test_both_stages_of_an_early_exit_count_and_its_head_is_a_part(profiled):
    profiles = profiled("arch=early_exit", "hw=fusion")
    for role in ("arch", "combined"):
        assert "exit head" in profiles[role].parts_ms and "dense block 4" in profiles[role].parts_ms
    assert "exit head" not in profiles["baseline"].parts_ms


def test_emulated_fp16_shows_its_casts(profiled):
    profiles = profiled("arch=grouped", "hw=fp16")
    assert profiles["hw"].attributed >= ENOUGH
    assert profiles["hw"].moves > 0


@pytest.mark.parametrize("hw", ["hw=int8", "hw=[int8,fusion]"])
def test_weights_of_eight_bits_still_say_whose_part_a_node_is(profiled, hw):
    """A weight comes through a DequantizeLinear: no convolution had one of its own, and nearly all was the head's."""
    profile = profiled(hw)["hw"]
    assert sorted(known(profile), key=order_of) == WHOLE
    assert profile.parts_ms["head"] < 0.25 * profile.work_ms
    assert profile.attributed >= ENOUGH


def test_a_profiler_that_fails_is_a_reason_and_no_crash(prepared):
    _, cells = prepared("arch=grouped", "hw=fusion")
    broken = replace(cells["combined"].artifacts[0], main_file="gone.onnx")
    with pytest.raises(CellError, match="onnxruntime could not be profiled"):
        take_profile([None], [broken], [2], "cpu")


def test_an_engine_without_a_profiler_has_no_profile_and_that_is_a_reason(prepared, monkeypatch):
    _, cells = prepared("arch=none", "hw=none", "reference=engine")
    (cell,) = cells.values()
    monkeypatch.setattr(type(get("onnxruntime")), "profile", Engine.profile)
    with pytest.raises(CellError, match="engine onnxruntime has no profiler"):
        take_profile([None], cell.artifacts, [2], "cpu")
