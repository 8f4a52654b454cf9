"""A network as a chain of parts, each fed by the one before: where it can be cut in two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ConvNeXt, DenseNet, EfficientNet, MobileNetV3, ResNet, VisionTransformer

from harness.system.library_internals import densenet_parts

FAMILIES = "DenseNet, ResNet, ConvNeXt, EfficientNet, MobileNetV3 or VisionTransformer of torchvision's"


@dataclass(frozen=True)
class Chain:
    """The parts of a network in the order they run, and what makes logits [B, classes] of the last one's features."""

    unit: str  # what the parts are called that one may leave after
    parts: tuple[tuple[str, nn.Module], ...]
    tail: nn.Module
    cuts: tuple[int, ...]  # how many parts lie before each place where the chain may be cut


class Tail(nn.Module):
    """Features [B, C, H, W] -> logits: activation, global average pool, classifier, with the network's own modules."""

    def __init__(self, classifier: nn.Module, pool: nn.Module | None = None, relu: bool = False, flat: bool = True):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((1, 1)) if pool is None else pool
        self.classifier = classifier
        self._relu = relu
        self._flat = flat

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        pooled = self.pool(F.relu(features) if self._relu else features)
        logits: torch.Tensor = self.classifier(torch.flatten(pooled, 1) if self._flat else pooled)
        return logits


class Tokens(nn.Module):
    """Images [B, 3, S, S] -> tokens [B, 1 + N, D]: the patches behind the class token, with their places added."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = vit.conv_proj
        self.class_token = vit.class_token
        self.pos_embedding: torch.Tensor = vit.encoder.pos_embedding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the tokens that the first encoder layer sees."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        placed: torch.Tensor = (
            torch.cat([self.class_token.expand(images.shape[0], -1, -1), patches], 1) + self.pos_embedding
        )
        return placed


class TokenTail(nn.Module):
    """Tokens [B, 1 + N, D] -> logits, from the class token alone."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.norm = vit.encoder.ln
        self.heads = vit.heads

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.heads(self.norm(tokens)[:, 0])
        return logits


def chain(model: nn.Module) -> Chain | None:
    """Return `model` as a chain of its own modules (not copies), or None where its family is not known here."""
    if isinstance(model, DenseNet):
        dense_block, _, _ = densenet_parts()
        parts = tuple(model.features.named_children())
        cuts = [place for place, (_, part) in enumerate(parts, 1) if isinstance(part, dense_block)]
        return Chain("dense block", parts, Tail(model.classifier, relu=True), tuple(cuts))
    if isinstance(model, ResNet):
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        parts = tuple((name, getattr(model, name)) for name in names)
        return Chain("stage", parts, Tail(model.fc, model.avgpool), (5, 6, 7, 8))
    if isinstance(model, ConvNeXt):  # a stem, then stages with a downsampling between each two
        parts = _features(model)
        tail = Tail(model.classifier, model.avgpool, flat=False)  # its classifier normalises, then flattens
        return Chain("stage", parts, tail, tuple(range(2, len(parts) + 1, 2)))
    if isinstance(model, EfficientNet | MobileNetV3):  # a stem, stages or blocks, and a last convolution
        parts = _features(model)
        unit = "stage" if isinstance(model, EfficientNet) else "block"
        return Chain(unit, parts, Tail(model.classifier, model.avgpool), tuple(range(2, len(parts))))
    if isinstance(model, VisionTransformer):
        layers = tuple(model.encoder.layers.named_children())
        parts = (("tokens", Tokens(model)), *layers)
        return Chain("encoder layer", parts, TokenTail(model), tuple(range(2, len(parts) + 1)))
    return None


def _features(model: ConvNeXt | EfficientNet | MobileNetV3) -> tuple[tuple[str, nn.Module], ...]:
    features: nn.Module = model.features
    return tuple((f"features{name}", part) for name, part in features.named_children())
