"""Settings: what device and boundary decide is filled in once, and the files in conf/ say what the code does."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from omegaconf import OmegaConf

from harness.config import ProtocolConfig
from harness.measure.settings import fallen_back, resolve_protocol
from harness.results.record import params
from harness.sweep.choices import config_dir
from harness.sweep.plan import plan_quartet

DEFAULT = asdict(ProtocolConfig())


def file_of(name: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(config_dir() / "protocol" / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("device", "primary", "half_width", "tolerance"),
    [
        ("cpu", "auto", 0.03, 0.05),
        ("cpu", "wall", 0.03, 0.05),
        ("cuda", "auto", 0.01, 0.01),
        ("cuda", "device", 0.01, 0.01),
        ("cuda", "wall", 0.03, 0.01),
        ("cuda", "end_to_end", 0.03, 0.01),
    ],
)
def test_width_follows_the_boundary_and_the_warm_ups_tolerance_the_device(device, primary, half_width, tolerance):
    asked = ProtocolConfig(primary=primary, restarts=3)
    found = resolve_protocol(asked, device)
    assert found == replace(asked, half_width=half_width, warmup_tolerance=tolerance)
    assert resolve_protocol(found, device) == found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_was_given_is_kept(device):
    asked = ProtocolConfig(half_width=0.2, warmup_tolerance=0.3)
    assert resolve_protocol(asked, device) == asked
    assert resolve_protocol(replace(asked, half_width=None), device).warmup_tolerance == 0.3
    assert resolve_protocol(replace(asked, warmup_tolerance=None), device).half_width == 0.2


def test_a_quartet_that_falls_back_to_another_boundary_has_that_ones_width_unless_it_was_given_one():
    planned = resolve_protocol(ProtocolConfig(), "cuda")
    assert fallen_back(planned, "device", "wall") == replace(planned, half_width=0.03)
    assert fallen_back(planned, "device", "device") == planned
    given = replace(planned, half_width=0.005)
    assert fallen_back(given, "device", "wall") == given


def test_the_default_protocol_stands_in_its_dataclass_alone(configured):
    assert file_of("default") == {"name": "default"}
    assert asdict(configured("protocol=default").protocol) == DEFAULT


@pytest.mark.parametrize("name", ["quick", "strict"])
def test_another_protocol_is_the_default_one_but_for_what_its_file_says(name, configured):
    changed = {key: value for key, value in file_of(name).items() if key != "defaults"}
    assert set(changed) <= set(DEFAULT)
    assert {key for key, value in changed.items() if value == DEFAULT[key]} == set()
    assert asdict(configured(f"protocol={name}").protocol) == {**DEFAULT, **changed}


def test_a_plan_and_its_row_have_the_settings_that_are_used(planned, configured):
    row = params(planned("arch=grouped", "hw=fusion"))
    assert (row["protocol.half_width"], row["protocol.warmup_tolerance"]) == (0.03, 0.05)
    assert {name for name in row if name.startswith("protocol.")} == {f"protocol.{name}" for name in DEFAULT}
    on_gpu = plan_quartet(configured("arch=grouped", "hw=fp16"), "eager", "cuda").config.protocol
    assert (on_gpu.half_width, on_gpu.warmup_tolerance) == (0.01, 0.01)
    strict = plan_quartet(configured("arch=grouped", "hw=fp16", "protocol=strict"), "eager", "cuda").config.protocol
    assert (strict.half_width, strict.warmup_tolerance) == (0.005, 0.01)
