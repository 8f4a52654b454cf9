"""The two ceilings: measured for real on the CPU, small; and that their units are right."""

from __future__ import annotations

import pytest
import torch

from harness.measure import ceilings
from harness.measure.ceilings import Ceilings, measure_ceilings


@pytest.fixture(autouse=True)
def torchs_own_settings():
    """Put back what measuring leaves changed: here it runs in the tests' own process."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32


def test_a_cpu_has_a_copy_and_a_product_in_fp32_alone():
    found = measure_ceilings("cpu", 1, False, 1 << 22, 128, ("float32", "bfloat16", "int8"))
    assert 0.01 < found.copy_gb_s < 10_000  # wrong by a unit, it would be out of every machine's reach
    assert 1e-5 < found.matmul_fp32_tflops < 100
    assert found.matmul_fp16_tflops is found.matmul_bf16_tflops is found.matmul_int8_tops is None
    assert torch.get_num_threads() == 1


def test_a_copy_counts_what_it_reads_and_what_it_writes_and_a_product_two_operations_a_term(monkeypatch):
    monkeypatch.setattr(ceilings, "_median_s", lambda run, device: 0.5)
    found = measure_ceilings("cpu", 0, False, 4000, 30)
    assert found == Ceilings(copy_gb_s=2 * 2 * 4000 / 1e9, matmul_fp32_tflops=2 * 2 * 30**3 / 1e12)


def test_the_first_run_and_a_slow_one_do_not_count(monkeypatch):
    durations = iter([9.0, 0.5, 7.0, 0.5])
    monkeypatch.setattr(ceilings, "_wall_s", lambda run: next(durations))
    monkeypatch.setattr(ceilings, "BUDGET_S", 0.0)
    assert ceilings._median_s(lambda: None, "cpu") == 0.5


def test_a_cell_is_held_to_the_product_in_its_own_precision():
    found = Ceilings(1000.0, 50.0, 500.0, 510.0, 990.0)
    dtypes = ("float32", "float16", "bfloat16", "int8", "float64")
    assert [found.matmul_tflops(dtype) for dtype in dtypes] == [50.0, 500.0, 510.0, 990.0, None]


def test_eight_bits_are_a_product_of_their_own_where_there_is_one(monkeypatch):
    monkeypatch.setattr(ceilings, "BUDGET_S", 0.0)
    assert 1e-6 < ceilings._matmul_integers("cpu", 64, "int8") < 1000  # wrong by a unit, it would be out of reach

    def none_here(left, right, out):
        raise RuntimeError("not implemented for this chip")

    monkeypatch.setattr(ceilings, "int8_product", none_here)
    assert ceilings._matmul_integers("cpu", 64, "int8") is None
