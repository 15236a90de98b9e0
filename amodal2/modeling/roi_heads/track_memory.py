"""What a tracker of detections has found of a video so far, in a form that can be saved.

Shapes: N detections, T frames, M side of the masks inside boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor

from amodal2.modeling.roi_heads.track_linking import LinkMemory
from amodal2.structures import fields
from amodal2.structures.clip import ClipOutput
from amodal2.structures.rle import decode_rle, encode_masks
from amodal2.structures.track import MaskTube, Track

KINDS = {"visible": fields.PRED_VISIBLE_MASKS, "amodal": fields.PRED_AMODAL_MASKS}
_INSIDE = 30.0


@dataclass
class Tube:
    """What was found of one track.

    Attributes:
        scores: of its detections.
        votes: class index -> sum of scores.
        masks: "visible" or "amodal" -> frame -> run lengths, None for an empty mask.
    """

    scores: list[float] = field(default_factory=list)
    votes: dict[int, float] = field(default_factory=dict)
    masks: dict[str, dict[int, Any]] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Mean over the frames with a detection."""
        return sum(self.scores) / len(self.scores)

    @property
    def category(self) -> int:
        """The class with the highest sum of scores."""
        return max(self.votes, key=self.votes.__getitem__)

    def track(self, number: int, length: int) -> Track:
        """Return the track over all frames."""
        tubes: dict[str, MaskTube] = {
            kind: [found.get(t) for t in range(length)] for kind, found in self.masks.items()
        }
        return Track(number, self.category, self.score, tubes.get("visible"), tubes.get("amodal"))


@dataclass
class TrackMemory:
    """The state of a tracker between two frames.

    Attributes:
        links: what detections are linked to.
        tubes: number of a track -> what was found of it.
        sizes: per frame height and width of the masks.
    """

    links: LinkMemory = field(default_factory=LinkMemory)
    tubes: dict[int, Tube] = field(default_factory=dict)
    sizes: list[list[int]] = field(default_factory=list)

    def add(self, found: Instances) -> None:
        """Add the detections of the next frame.

        Args:
            found: N objects with ``pred_ids`` (0 for those without a track), ``pred_classes``,
                ``scores`` and masks of the frame (bool [N, H, W]).
        """
        t = len(self.sizes)
        self.sizes.append(list(found.image_size))
        known = {kind: found.get(name) for kind, name in KINDS.items() if found.has(name)}
        masks = {kind: encode_masks(planes.cpu().numpy()) for kind, planes in known.items()}
        filled = {kind: planes.flatten(1).any(dim=1).tolist() for kind, planes in known.items()}
        columns = (fields.PRED_IDS, fields.PRED_CLASSES, fields.SCORES)
        rows = zip(*(found.get(name).tolist() for name in columns), strict=True)
        for i, (number, category, score) in enumerate(rows):
            if number == 0:
                continue
            tube = self.tubes.setdefault(number, Tube())
            tube.scores.append(score)
            tube.votes[category] = tube.votes.get(category, 0.0) + score
            for kind, values in masks.items():
                tube.masks.setdefault(kind, {})[t] = values[i] if filled[kind][i] else None

    def ranked(self, top_k: int) -> list[tuple[int, Tube]]:
        """Return the numbers and tubes of the best tracks, best first."""
        return sorted(self.tubes.items(), key=lambda item: -item[1].score)[:top_k]

    def class_scores(self, top_k: int, num_classes: int) -> Tensor:
        """Return the best tracks' scores, each in the column of its class ([N, K])."""
        ranked = self.ranked(top_k)
        scores = torch.zeros(len(ranked), num_classes)
        for row, (_, tube) in enumerate(ranked):
            scores[row, tube.category] = tube.score
        return scores

    def outputs(self, top_k: int, kinds: Mapping[str, bool]) -> Iterator[ClipOutput]:
        """Yield the masks of the best tracks frame by frame, as logits far from zero.

        Args:
            top_k: tracks.
            kinds: whether "visible" and "amodal" masks are predicted.
        """
        ranked = [tube for _, tube in self.ranked(top_k)]
        for t, (height, width) in enumerate(self.sizes):
            logits = {
                kind: _logits([tube.masks.get(kind, {}).get(t) for tube in ranked], height, width)
                for kind in KINDS
                if kinds[kind]
            }
            size = (height, width)
            yield ClipOutput(logits.get("visible"), logits.get("amodal"), size, size)


def _logits(masks: MaskTube, height: int, width: int) -> Tensor:
    """Return masks as logits [N, 1, H, W]."""
    planes = np.zeros((len(masks), 1, height, width), bool)
    for plane, mask in zip(planes, masks, strict=True):
        if mask is not None:
            plane[0] = decode_rle(mask)
    return _INSIDE * (2 * torch.from_numpy(planes).float() - 1)
