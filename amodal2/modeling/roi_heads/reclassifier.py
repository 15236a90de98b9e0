"""VRSP's second opinion on the class of a region, from what is visible of it.

Shapes: N regions, C channels, S side of the pooled features, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from fvcore.nn import weight_init
from torch import Tensor, nn

_LEAST = 0.6


class Reclassifier(nn.Module):
    """Convolutions and fully connected layers; the names are those of the official code."""

    def __init__(
        self, channels: int, side: int, num_classes: int, conv_dims: list[int], fc_dims: list[int]
    ) -> None:
        """Build the layers.

        Args:
            channels: C.
            side: S.
            num_classes: K.
            conv_dims: channels of the 3x3 convolutions, in order.
            fc_dims: widths of the fully connected layers before the last one.

        Raises:
            ValueError: if there are no layers before the last one.
        """
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ValueError(
                "Reclassifier: expected a layer in MODEL.VRSP.RECLASSIFIER CONV_DIMS or FC_DIMS, "
                "got none"
            )
        self.num_conv, self.num_fc = len(conv_dims), len(fc_dims)
        for k, width in enumerate(conv_dims, 1):
            conv = Conv2d(channels, width, kernel_size=3, padding=1, activation=F.relu)
            weight_init.c2_msra_fill(conv)
            self.add_module(f"conv{k}", conv)
            channels = width
        size = channels * side * side
        for k, width in enumerate(fc_dims, 1):
            layer = nn.Linear(size, width)
            weight_init.c2_xavier_fill(layer)
            self.add_module(f"fc{k}", layer)
            size = width
        self.recls = nn.Linear(size, num_classes)
        nn.init.normal_(self.recls.weight, std=0.01)
        nn.init.zeros_(self.recls.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return class logits [N, K] of features [N, C, S, S] inside visible masks."""
        for k in range(1, self.num_conv + 1):
            x = getattr(self, f"conv{k}")(x)
        x = x.flatten(1)
        for k in range(1, self.num_fc + 1):
            x = getattr(self, f"fc{k}")(x).relu()
        return self.recls(x)


def reclassification_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Average the weighted cross entropy.

    Args:
        logits (Tensor[N, K]): N = 0 gives 0.
        classes (Tensor[N]): true classes.
        weights (Tensor[N]): how much each region counts.

    Returns:
        Tensor[]: the mean over the regions, whatever their weights.
    """
    if not len(logits):
        return logits.sum()
    return (F.cross_entropy(logits.float(), classes, reduction="none") * weights).mean()


def reclassified_scores(scores: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
    """Lower scores by up to 40 % where the second opinion disagrees.

    Args:
        scores (Tensor[N]): of the detector.
        logits (Tensor[N, K]): of the re-classifier.
        classes (Tensor[N]): of the detector.

    Returns:
        Tensor[N]: score * (0.6 + 0.4 * probability of the class), as in the official code.
    """
    known = torch.arange(len(classes), device=classes.device)
    return scores * (_LEAST + (1 - _LEAST) * logits.softmax(dim=1)[known, classes])
