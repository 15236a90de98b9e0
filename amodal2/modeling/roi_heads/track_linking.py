"""Joining of detections into tracks, frame by frame (MaskTrack R-CNN, Yang et al. ICCV 2019).

Shapes: N detections of a frame, M tracks so far, D numbers per embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor, nn


class TrackHead(nn.Module):
    """Two fully connected layers that give every region an embedding."""

    def __init__(self, input_shape: ShapeSpec, hidden_dim: int) -> None:
        """Build the layers.

        Args:
            input_shape: channels, height and width of the pooled features.
            hidden_dim: D.
        """
        super().__init__()
        size = input_shape.channels * input_shape.height * input_shape.width
        self.fc1 = nn.Linear(size, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings [N, D] of pooled features [N, C, S, S]."""
        return self.fc2(self.fc1(x.flatten(1)).relu())


def match_logits(found: Tensor, known: Tensor) -> Tensor:
    """Compare detections with tracks.

    Args:
        found (Tensor[N, D]): embeddings of detections.
        known (Tensor[M, D]): embeddings of tracks.

    Returns:
        Tensor[N, M + 1]: logits; column 0, always zero, stands for a new object.
    """
    return F.pad(found @ known.t(), (1, 0))


def track_loss(logits: Tensor, ids: Tensor, known_ids: Tensor) -> Tensor:
    """Average the cross entropy of finding the own object among those of another frame.

    Args:
        logits (Tensor[N, M + 1]): of :func:`match_logits`.
        ids (Tensor[N]): true track ids of the detections.
        known_ids (Tensor[M]): those of the other frame, all different.

    Returns:
        Tensor: scalar; zero, with gradients, without detections.
    """
    if not len(logits):
        return logits.sum() * 0
    same = ids[:, None] == known_ids[None]
    target = torch.where(same.any(dim=1), F.pad(same.float(), (1, 0)).argmax(dim=1), 0)
    return F.cross_entropy(logits.float(), target)


@dataclass
class LinkWeights:
    """What speaks for a track beside the embeddings.

    Attributes:
        score (float): weight of the logarithm of the detection's score.
        iou (float): weight of the overlap of the boxes.
        category (float): added for equal classes, and for a new object.
    """

    score: float = 1.0
    iou: float = 2.0
    category: float = 10.0


@dataclass
class LinkMemory:
    """The latest detection of every track, for ever.

    Attributes:
        embeddings (Tensor[M, D] | None): None before the first frame.
        boxes (Tensor[M, 4]): corners in pixels.
        classes (Tensor[M]): int64 class index.
    """

    embeddings: Tensor | None = None
    boxes: Tensor = field(default_factory=lambda: torch.zeros((0, 4)))
    classes: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


class TrackLinker:
    """Gives the detections of successive frames the numbers of tracks."""

    def __init__(self, weights: LinkWeights, memory: LinkMemory | None = None) -> None:
        """Go on from a memory, which is changed; None starts without tracks."""
        self.weights = weights
        self.memory = memory or LinkMemory()

    def __call__(
        self, boxes: Tensor, classes: Tensor, scores: Tensor, embeddings: Tensor
    ) -> Tensor:
        """Link the detections of the next frame.

        Args:
            boxes (Tensor[N, 4]): corners in pixels.
            classes (Tensor[N]): int64 class index.
            scores (Tensor[N]): in (0, 1].
            embeddings (Tensor[N, D]): of :class:`TrackHead`.

        Returns:
            Tensor[N]: track numbers from 1; 0 for a detection whose track has a better one.
        """
        memory = self.memory
        known = embeddings[:0] if memory.embeddings is None else memory.embeddings.clone()
        if memory.embeddings is None:
            memory.boxes, memory.classes = boxes[:0], classes[:0]
        likeness = self._compare(boxes, classes, scores, match_logits(embeddings, known))
        best, choice = likeness.max(dim=1)
        numbers = torch.zeros(len(boxes), dtype=torch.int64)
        for track in choice[choice > 0].unique().tolist():
            rivals = (choice == track).nonzero()[:, 0]
            winner = int(rivals[best[rivals].argmax()])
            numbers[winner] = track
            known[track - 1] = embeddings[winner]
            memory.boxes[track - 1] = boxes[winner]
            memory.classes[track - 1] = classes[winner]
        new = (choice == 0).nonzero()[:, 0]
        numbers[new.cpu()] = len(memory.boxes) + 1 + torch.arange(len(new))
        memory.embeddings = torch.cat((known, embeddings[new]))
        memory.boxes = torch.cat((memory.boxes, boxes[new]))
        memory.classes = torch.cat((memory.classes, classes[new]))
        return numbers

    def _compare(self, boxes: Tensor, classes: Tensor, scores: Tensor, logits: Tensor) -> Tensor:
        """Return how well each detection fits a new object and each track, [N, M + 1]."""
        likeness = logits.log_softmax(dim=1)
        overlap = F.pad(pairwise_iou(Boxes(boxes), Boxes(self.memory.boxes)), (1, 0))
        same = F.pad((classes[:, None] == self.memory.classes[None]).float(), (1, 0), value=1.0)
        confidence = scores.clamp(min=1e-6).log()[:, None]
        weights = self.weights
        return (
            likeness + weights.score * confidence + weights.iou * overlap + weights.category * same
        )
