"""The allocator: a worker keeps what it frees, so that a batch takes no page faults for it."""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from harness.measure.worker import TOP_PAD_BYTES, keep_freed_memory

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


@pytest.mark.spawned
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_a_page_fault():
    told, kept = faults_a_round(keep=True)
    if not told:
        pytest.skip("this C library has no mallopt")
    _, returned = faults_a_round(keep=False)
    assert returned > 10  # huge pages: 24 of them, small ones: 12,288
    assert kept < returned / 10


def test_where_there_is_no_glibc_nothing_is_told_and_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # musl: no mallopt
    assert keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("another system's C library was asked"))
    assert keep_freed_memory() is False


@pytest.mark.parametrize("refused", [None, -4, -1, -2])
def test_memory_is_kept_only_if_glibc_took_all_three_settings(monkeypatch, refused):
    told = {}

    def mallopt(parameter: int, value: int) -> int:  # mallopt(3): 1 is success, 0 an error
        told[parameter] = value
        return int(parameter != refused)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory() is (refused is None)
    assert told == {-4: 0, -1: -1, -2: TOP_PAD_BYTES}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
