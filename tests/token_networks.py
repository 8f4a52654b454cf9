"""A network on token ids and a mask, `model=token_networks:tagger`: what it takes is said by `inputs` below."""

import torch
from torch import nn

TOKENS, VOCABULARY, WIDTH = 12, 40, 32


class Tagger(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.mixing = nn.Linear(WIDTH, WIDTH)
        self.classifier = nn.Linear(WIDTH, num_classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        kept = mask[..., None].to(self.embedding.weight.dtype)
        tokens = self.embedding(ids) * kept
        mean = tokens.sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        tokens = torch.tanh(self.mixing(tokens + mean))
        return {"scores": self.classifier((tokens * kept).sum(1) / kept.sum(1)), "tokens": tokens}


def tagger(num_classes: int) -> nn.Module:
    return Tagger(num_classes)


class Scorer(Tagger):
    """One number a sentence, from inputs in the order of its parameters: what a server can answer with."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return super().forward(ids, mask)["scores"][:, 0]


def scorer(num_classes: int) -> nn.Module:
    return Scorer(num_classes)


def inputs(batch_size: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, TOKENS + 1, (batch_size, 1), generator=generator)
    mask = torch.arange(TOKENS) < lengths
    return {"ids": torch.randint(VOCABULARY, (batch_size, TOKENS), generator=generator) * mask, "mask": mask}


scorer.inputs = lambda batch_size, seed: tuple(inputs(batch_size, seed).values())
