"""What a network can't do in training is refused before any work: a batch norm of one image, more than its logits."""

import pytest
from torch import nn

from harness.commands.train.command import _check_answers, _check_batch
from harness.config import ModelConfig
from harness.system.errors import UserError


class Learning(nn.Module):
    """Answers with its logits, [B, 4]; in training as `train_answer` makes of them."""

    def __init__(self, train_answer):
        super().__init__()
        self.layer, self.train_answer = nn.Linear(3, 4), train_answer

    def forward(self, images):
        logits = self.layer(images.mean((2, 3)))
        return self.train_answer(logits) if self.training else logits


@pytest.mark.parametrize(
    ("train_answer", "said"),
    [
        (lambda logits: (logits, logits), r"gives a tuple \(\[B, 4\], \[B, 4\]\) in training"),
        (lambda logits: {"logits": logits}, r"gives a dict \(logits \[B, 4\]\) in training"),
        (lambda logits: logits.sum(0), r"gives \[B\] in training"),
        (lambda logits: logits.missing, "can't be run in training on images .*AttributeError"),
    ],
)
def test_a_network_that_gives_more_than_its_logits_in_training_is_refused(train_answer, said):
    cfg = ModelConfig("mine", image_size=32, num_classes=4)
    with pytest.raises(UserError, match=said):
        _check_answers(Learning(train_answer).eval(), cfg, 2)
    _check_answers(Learning(lambda logits: logits + 1).eval(), cfg, 2)


def test_a_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    _check_answers(network, ModelConfig("mine", image_size=32, num_classes=4), 2)
    assert not network.training
    assert not network[1].num_batches_tracked


def test_a_batch_of_one_is_refused_where_there_are_batch_norms_and_only_there():
    normed, plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(UserError, match=r"has batch norms.*its batches have 1: set train.batch_size to 2 or more"):
        _check_batch(normed, 1)
    _check_batch(normed, 2)
    _check_batch(plain, 1)
