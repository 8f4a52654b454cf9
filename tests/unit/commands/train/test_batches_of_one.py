"""A batch of one image has no variance for a batch norm: refused before any work."""

import pytest
from torch import nn

from harness.commands.train.command import _check_batch
from harness.system.errors import UserError


def test_a_batch_of_one_is_refused_where_there_are_batch_norms_and_only_there():
    normed, plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(UserError, match=r"has batch norms.*its batches have 1: set train.batch_size to 2 or more"):
        _check_batch(normed, 1)
    _check_batch(normed, 2)
    _check_batch(plain, 1)
