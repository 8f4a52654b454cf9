"""What makes a test of the default run too long, and what is only a busy machine."""

from __future__ import annotations

import pytest

from longest import too_long


@pytest.mark.parametrize(("cpu_s", "found"), [(0.1, False), (30, False), (44, False), (46, True)])
def test_what_two_cores_do_in_fifteen_seconds_is_not_too_long_nor_half_as_much_again(cpu_s, found):
    assert bool(too_long(cpu_s, 15)) == found
