"""Leave the network after a dense block (a stage, an encoder layer) when a small exit head is sure enough.

BranchyNet (Teerapittayanon, McDanel, Kung: BranchyNet: Fast Inference via Early Exiting, ICPR 2016). The network is cut
in two: stage 1 is everything up to the exit and the exit head, stage 2 is the rest and sees only the samples that did
not leave. The exit head's weights are drawn from `options.seed`, every other weight is the given one.

A network can be cut where it is a chain of parts, each fed by the one before: the families that are known as such are
below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ConvNeXt, DenseNet, EfficientNet, MobileNetV3, ResNet, VisionTransformer

from harness.config import HarnessConfig
from harness.networks.data import UNLABELLED
from harness.networks.determinism import seeded
from harness.networks.inputs import carry_inputs, image_inputs, one_tensor
from harness.networks.shapes import copied, for_inference, output_shapes
from harness.system.errors import UserError, kind_and_first_line
from harness.system.library_internals import densenet_parts
from harness.techniques.arch.anatomy import num_classes, require_images, taken_by
from harness.techniques.arch.exit_policy import EXIT_HEAD, Decision, ExitPolicy
from harness.techniques.arch.options import EarlyExitOptions
from harness.techniques.arch.stages import LAST_HEAD, Stage
from harness.techniques.arch.understood import answers, close, difference, telling_copy

name = "early_exit"
BY_ANSWERS = ("max_accuracy_drop",)  # options that mean nothing while the exit's head is untrained


class ExitHead(nn.Module):
    """BatchNorm, ReLU, global average pool, Linear: features [B, C, H, W] -> logits [B, num_classes]."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the exit's logits."""
        pooled = F.adaptive_avg_pool2d(F.relu(self.norm(features)), (1, 1))
        logits: torch.Tensor = self.classifier(torch.flatten(pooled, 1))
        return logits


class TokenExitHead(nn.Module):
    """LayerNorm and Linear on the class token: tokens [B, 1 + N, D] -> logits [B, num_classes]."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the exit's logits."""
        logits: torch.Tensor = self.classifier(self.norm(tokens[:, 0]))
        return logits


class Stage1(nn.Module):
    """Images [B, 3, S, S] -> (features [B, C, H, W] or tokens [B, 1 + N, D], exit logits [B, num_classes])."""

    def __init__(self, trunk: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features that stage 2 goes on from, and the exit's logits."""
        features = self.trunk(images)
        return features, self.head(features)


class Stage2(nn.Module):
    """Features or tokens -> logits [B, num_classes], with the operations of the network's own forward."""

    def __init__(self, trunk: nn.Sequential, tail: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.tail = tail

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the final logits."""
        logits: torch.Tensor = self.tail(self.trunk(features))
        return logits


class EarlyExitNetwork(nn.Module):
    """Two stages and the router between them. `router` may be replaced, for one that is calibrated."""

    def __init__(self, stage1: Stage1, stage2: Stage2, router: ExitPolicy) -> None:
        super().__init__()
        self.stage1 = stage1
        self.stage2 = stage2
        self.router = router

    def stages(self, side: int) -> tuple[Stage, Stage]:
        """Return both stages for images of `side` pixels."""
        images = image_inputs(side)
        features = one_tensor("features", output_shapes(self.stage1, images)[0])
        return (
            Stage("stage1", self.stage1, images, ("features", EXIT_HEAD)),
            Stage("stage2", self.stage2, features, (LAST_HEAD,)),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, num_classes]: the exit's for samples that leave, stage 2's for the others.

        The reference for every engine: it decides, compacts the survivors, runs stage 2 on them alone and puts the
        results back in their places.
        """
        features: torch.Tensor
        logits: torch.Tensor
        features, logits = self.stage1(images)
        going_on = self.router.goes_on(0, logits)
        if len(going_on) == 0:
            return logits
        return logits.index_copy(0, going_on, self.stage2(features.index_select(0, going_on)))


def check_config(options: EarlyExitOptions, config: HarnessConfig) -> None:
    """Raise UserError for a drop in accuracy on data without labels."""
    if options.max_accuracy_drop is not None and config.data.name == UNLABELLED:
        raise UserError(
            "arch.early_exit.max_accuracy_drop needs labelled data: data=digits, image_folder, huggingface."
        )


def check(model: nn.Module, options: EarlyExitOptions) -> None:
    """Raise UserError unless `model` has the block to leave after, and the decision is well defined."""
    require_images(model, f"arch={name}")
    found = _chain(model)
    blocks = len(found.cuts)
    if not 1 <= options.after_block <= blocks:
        valid = ", ".join(str(block) for block in range(1, blocks + 1))
        raise UserError(
            f"arch.early_exit.after_block={options.after_block} does not exist: it may be {valid} ({found.unit}s)"
        )
    if options.decision not in ("auto", "share", "threshold"):
        raise UserError(f"arch.early_exit.decision={options.decision} is not known: it may be auto, share or threshold")
    if not 0 <= options.exit_share <= 1:
        raise UserError(f"arch.early_exit.exit_share={options.exit_share} is not a share: it must be from 0 to 1")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UserError(f"arch.early_exit.threshold={options.threshold} is not a confidence: it must be from 0 to 1")
    if options.max_accuracy_drop is not None and not 0 <= options.max_accuracy_drop <= 1:
        raise UserError(
            f"arch.early_exit.max_accuracy_drop={options.max_accuracy_drop} is not a share of answers: from 0 to 1"
        )
    if options.threshold is not None and options.max_accuracy_drop is not None:
        raise UserError(
            "arch.early_exit.threshold and arch.early_exit.max_accuracy_drop both set the threshold: drop one"
        )
    for option in ("threshold", "max_accuracy_drop"):
        if getattr(options, option) is not None and options.decision == "share":
            raise UserError(
                f"arch.early_exit.{option}={getattr(options, option)} has no effect with decision=share: "
                "use decision=threshold"
            )
    _check_parts(model)


def apply(model: nn.Module, options: EarlyExitOptions) -> EarlyExitNetwork:
    """Return a copy of `model` cut after block `options.after_block`, with an exit head there.

    `decision=auto` is a share until the router is calibrated.
    """
    whole = copied(model)
    found = _chain(whole)
    cut = found.cuts[options.after_block - 1]
    first, rest = _sequence(found.parts[:cut]), _sequence(found.parts[cut:])
    shape = output_shapes(first.eval(), taken_by(model))[0]  # [C, H, W], or [1 + N, D]
    with seeded(options.seed):
        head = _head(shape, num_classes(whole))
    router = ExitPolicy(
        cast(Decision, options.decision),
        options.exit_share,
        options.threshold,
        options.max_accuracy_drop,
        place=f"after {found.unit} {options.after_block}",
    )
    network = EarlyExitNetwork(Stage1(first, head), Stage2(rest, found.tail), router)
    carry_inputs(network, taken_by(model))
    for_inference(network)
    return network


def _check_parts(model: nn.Module) -> None:
    """Raise UserError unless the parts, one after the other, answer as `model` does; a subclass may not."""
    (images,) = taken_by(model).tensors(2)
    with torch.no_grad():
        telling = telling_copy(model)
        found, (before, *others) = _chain(copied(telling, own_weights=False)), answers(telling, model)
        if others:
            raise UserError(f"arch={name} needs one tensor of logits, and {type(model).__name__} gives several outputs")
        try:
            after = found.tail(_sequence(found.parts)(images))
        except Exception as error:
            raise UserError(
                f"arch={name} can't cut {type(model).__name__}: its parts don't run one after the other: "
                f"{kind_and_first_line(error)[:180]}"
            ) from error
    if not close(before, after):
        raise UserError(
            f"arch={name} can't cut {type(model).__name__}: its parts, run in sequence, answer differently "
            f"from the whole, by {difference(before, after):.2g} of its range; its forward is not torchvision's"
        )


def _chain(model: nn.Module) -> Chain:
    try:
        found = chain(model)
    except AttributeError:  # a subclass without a part that its family has
        found = None
    if found is None:
        kind = type(model)
        raise UserError(
            f"arch={name} cuts known architectures only: it needs a {FAMILIES}, "
            f"found {kind.__name__} of {kind.__module__}"
        )
    return found


def _head(shape: tuple[int, ...], classes: int) -> nn.Module:
    return ExitHead(shape[0], classes) if len(shape) == 3 else TokenExitHead(shape[1], classes)


def _sequence(parts: tuple[tuple[str, nn.Module], ...]) -> nn.Sequential:
    # Keeps the names, so that weights are found under the names they have in the whole network.
    sequence = nn.Sequential()
    for part_name, part in parts:
        sequence.add_module(part_name, part)
    return sequence


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
