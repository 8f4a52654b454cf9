"""A small text encoder, pure PyTorch: token ids and a mask in, scores of classes and token features out.

What it takes is said by `inputs`, beside the function that makes it. From this folder:

    python -m harness model=text_encoder:text_encoder arch=low_rank hw=fp16,fusion engine=onnxruntime
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

TOKENS, VOCABULARY = 64, 8192


class Attention(nn.Module):
    """Self-attention over the tokens that the mask keeps (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Return [B, T, D] of tokens [B, T, D] and a mask [B, T] bool."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=keep[:, None, None, :])
        return self.out(attended.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """An encoder layer that normalises first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Return [B, T, D]."""
        tokens = tokens + self.attention(self.norm_1(tokens), keep)
        return tokens + self.mlp(self.norm_2(tokens))


class TextEncoder(nn.Module):
    """Token ids and a mask [B, T] -> scores [B, classes] of the mean token, and the tokens' features [B, T, D]."""

    def __init__(self, num_classes: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.randn(TOKENS, width) / width**0.5)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return both; `mask` is true where there is a token."""
        tokens = self.embedding(ids) + self.position
        for layer in self.layers:
            tokens = layer(tokens, mask)
        tokens = self.norm(tokens)
        kept = mask[..., None].to(tokens.dtype)
        mean = (tokens * kept).sum(1) / kept.sum(1)
        return {"scores": self.classifier(mean), "tokens": tokens}


def text_encoder(num_classes: int = 10, width: int = 256, depth: int = 4, heads: int = 4) -> nn.Module:
    """Return the encoder with random weights: 5 million parameters as it stands."""
    return TextEncoder(num_classes, width, depth, heads)


def inputs(batch_size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return sentences of 16 to 64 tokens, filled up with zeros; the names are those of `TextEncoder.forward`."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(16, TOKENS + 1, (batch_size, 1), generator=generator)
    mask = torch.arange(TOKENS) < lengths
    ids = torch.randint(1, VOCABULARY, (batch_size, TOKENS), generator=generator) * mask
    return {"ids": ids, "mask": mask}
