"""The allocator: a worker keeps what it frees, so that a batch takes no page faults for it."""

from __future__ import annotations

import multiprocessing
import resource
import sys

import numpy as np
import pytest

from harness.measure.allocator import keep_freed_memory

BLOCK = 48 * 2**20  # above every threshold of glibc's: mapped and unmapped each time unless told otherwise


def _faults_a_round(keep: bool, connection) -> None:
    told = keep_freed_memory() if keep else False
    for _ in range(3):
        np.empty(BLOCK, dtype=np.uint8).fill(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.empty(BLOCK, dtype=np.uint8).fill(1)
    connection.send((told, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10))


def faults_a_round(keep: bool) -> tuple[bool, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_faults_a_round, args=(keep, theirs))
    process.start()
    assert ours.poll(60)
    answer = ours.recv()
    process.join(10)
    return answer


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_a_page_fault():
    told, kept = faults_a_round(keep=True)
    if not told:
        pytest.skip("this C library has no mallopt")
    _, returned = faults_a_round(keep=False)
    assert returned > 10  # huge pages: 24 of them, small ones: 12,288
    assert kept < returned / 10
