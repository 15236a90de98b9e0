"""Losses of clip queries (VITA, Sec. 3.4; GenVIS, Sec. 3.2).

Shapes: D object decoder layers, L frame decoder layers that act as extra batch, B videos, T frames
of the clip, cQ clip queries, fQ frame queries.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.mask_classification.criterion import (
    Masks,
    MaskTarget,
    Pairs,
    SetCriterion,
    join_steps,
    object_count,
)
from amodal2.modeling.mask_classification.label_assignment import LabelAssignment
from amodal2.modeling.mask_classification.object_association import ClipQueries
from amodal2.modeling.mask_classification.slot_masks import BatchMasks
from amodal2.modeling.mask_classification.transformer_decoder import ProductPrediction
from amodal2.utils.batch_mean import mean_over_batch

FramePairs = list[list[list[Pairs]]]
"""Pairs of frame queries and numbers of objects: of every layer L, video B and frame T."""


class ClipCriterion(SetCriterion):
    """Class and mask losses of every object decoder layer, and the similarity loss of the last.

    Args:
        similarity_weight: weight of the similarity loss; 0 leaves it out.
        similarity_of_clips: compare clip queries as well as frame queries.
        **losses: arguments of :class:`SetCriterion`.
    """

    def __init__(
        self, *, similarity_weight: float, similarity_of_clips: bool = True, **losses: Any
    ) -> None:
        super().__init__(**losses)
        self.similarity_weight, self.similarity_of_clips = similarity_weight, similarity_of_clips

    def clip_losses(
        self,
        queries: ClipQueries,
        features: Tensor,
        targets: list[MaskTarget],
        frame_pairs: FramePairs,
        assignments: list[list[LabelAssignment]] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of one clip of every video.

        Args:
            queries: with class and mask predictions.
            features (Tensor[B, T, C, h, w]): mask features of the clip.
            targets: objects of each video with their masks in the clip; objects without any mask
                in it are no targets here.
            frame_pairs: matches of the frame queries; read with the similarity loss alone.
            assignments: of the objects of each video (L*B, layer slowest) in each decoder layer
                that is supervised, brought up to date; None matches every clip on its own.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the last decoder layer, the same with
            the suffix ``_{i}`` of the earlier ones, and ``loss_sim``.
        """
        predictions = self._predictions(queries, features)
        repeated = targets * queries.queries.shape[1]
        present = [t.masks.flatten(1).any(1) for t in repeated]
        count = object_count([p.nonzero() for p in present], features.device)
        steps = []
        for d, prediction in enumerate(predictions):

            def assign(i: int, logits: Tensor, masks: Masks, d: int = d) -> Pairs:
                if assignments is None:
                    return self.match(logits, masks, repeated[i], present[i])
                return assignments[d][i].update(
                    present[i],
                    lambda new, taken: self.match(logits, masks, repeated[i], new, taken),
                )

            steps.append(self.score(prediction, repeated, count, assign))
        losses = join_steps([values for values, _ in steps])
        if self.similarity_weight:
            loss = similarity_loss(
                queries, steps[-1][1] if self.similarity_of_clips else None, frame_pairs
            )
            losses["loss_sim"] = self.similarity_weight * loss
        return losses

    def supervised_layers(self, decoder_layers: int) -> int:
        """Return how many object decoder layers have losses."""
        return decoder_layers if self.deep_supervision else 1

    def _predictions(self, queries: ClipQueries, features: Tensor) -> list[ProductPrediction]:
        """Predictions of the supervised decoder layers, L*B as one batch."""
        classes, embeddings = queries.class_logits, queries.mask_embed
        assert classes is not None, "the association has its heads"
        assert embeddings is not None, "the association has its heads"
        first = len(classes) - self.supervised_layers(len(classes))
        return [
            ProductPrediction(logits.flatten(0, 1), BatchMasks(embed.flatten(0, 1), features))
            for logits, embed in zip(classes[first:], embeddings[first:], strict=True)
        ]


def similarity_loss(
    queries: ClipQueries, clip_pairs: list[Pairs] | None, frame_pairs: FramePairs
) -> Tensor:
    """Let embeddings of one object have positive products, those of different objects negative.

    Embeddings of the matched frame queries of a clip and of its matched clip queries are compared
    all with all, by cross entropy on their dot products; the sum is divided by the number of pairs,
    averaged over the batch (VITA, Sec. 3.4).

    Args:
        queries: with similarity embeddings.
        clip_pairs: matches of each clip (L*B, layer slowest); None leaves the clip queries out.
        frame_pairs: matches of the frame queries.

    Returns:
        Tensor[]: loss.
    """
    frame_sim, clip_sim = queries.frame_sim, queries.clip_sim
    assert frame_sim is not None, "the association has its heads"
    assert clip_sim is not None, "the association has its heads"
    total = frame_sim.sum() * 0.0 + clip_sim.sum() * 0.0
    batch = frame_sim.shape[1]
    compared = 0
    for layer, videos in enumerate(frame_pairs):
        for video, frames in enumerate(videos):
            parts = [frame_sim[layer, video, t, slots] for t, (slots, _) in enumerate(frames)]
            ids = [objects for _, objects in frames]
            if clip_pairs is not None:
                slots, objects = clip_pairs[layer * batch + video]
                parts.append(clip_sim[-1, layer, video, slots])
                ids.append(objects)
            embedding, numbers = torch.cat(parts).float(), torch.cat(ids)
            same = (numbers[:, None] == numbers[None]).float()
            with torch.autocast(embedding.device.type, enabled=False):
                logits = embedding @ embedding.t()
                total = total + F.binary_cross_entropy_with_logits(logits, same, reduction="sum")
            compared += len(numbers) ** 2
    count = mean_over_batch(torch.tensor(float(compared), device=total.device))
    return total / torch.where(count > 0, count, 1.0)
