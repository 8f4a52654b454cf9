"""Self-attention with its projections as layers of their own, so that they can be pruned and factored.

`nn.MultiheadAttention` holds the projections of queries, keys and values as one bare parameter and reads the output
projection's weight past its layer: nothing can be put in their place. This computes the same from plain layers, with
the same weights (Vaswani et al., Attention Is All You Need, NIPS 2017).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.vision_transformer import EncoderBlock


class OpenAttention(nn.Module):
    """What `nn.MultiheadAttention` computes on one input, [B, N, D] -> ([B, N, D], None)."""

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        super().__init__()
        width = closed.embed_dim
        self.head_width = width // closed.num_heads  # how many heads there are follows from the layers' widths
        weights = closed.in_proj_weight.detach().chunk(3)
        biases = closed.in_proj_bias.detach().chunk(3)
        self.query, self.key, self.value = (_linear(*pair) for pair in zip(weights, biases, strict=True))
        self.out = _linear(closed.out_proj.weight.detach(), closed.out_proj.bias.detach())

    def extra_repr(self) -> str:
        """Show what layers alone don't."""
        return f"head_width={self.head_width}"

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, need_weights: bool = False
    ) -> tuple[torch.Tensor, None]:
        """Return the attended values; the arguments are `nn.MultiheadAttention`'s, whose place this takes."""
        heads = F.scaled_dot_product_attention(
            self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        )
        return self.out(heads.transpose(1, 2).flatten(2)), None

    def _split(self, projected: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = projected.unflatten(-1, (-1, self.head_width)).transpose(
            1, 2
        )  # [B, heads, N, head width]
        return heads


def open_attention(model: nn.Module) -> None:
    """Put `OpenAttention` into the encoder layers of a torchvision ViT, in place; other attention is left as it is."""
    for block in model.modules():
        if isinstance(block, EncoderBlock) and _is_understood(block.self_attention):
            block.self_attention = OpenAttention(block.self_attention).eval()


def _is_understood(attention: nn.Module) -> bool:
    """Return whether this is the attention that `OpenAttention` computes: of one input, with biases, none added."""
    return (
        type(attention) is nn.MultiheadAttention
        and attention.batch_first
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=weight.device)
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return layer
