"""VITA: clip queries that read the frame queries of a whole video (VITA, Sec. 3).

Shapes: L decoder layers that act as extra batch, B videos, T frames, fQ frame queries, cQ clip
queries, C channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from amodal2.modeling.baselines.base import Baseline, Sizes, baseline_arguments
from amodal2.modeling.mask_classification.clip_criterion import ClipCriterion, FramePairs
from amodal2.modeling.mask_classification.criterion import MaskTarget, Pairs
from amodal2.modeling.mask_classification.object_association import (
    ObjectAssociation,
    association_arguments,
)
from amodal2.modeling.mask_classification.segmenter import point_loss
from amodal2.modeling.mask_classification.targets import SampleBatch
from amodal2.modeling.mask_classification.transformer_decoder import DecoderOutput
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames
from amodal2.structures.feature_file import FeatureFile


@dataclass
class VITAState:
    """What VITA keeps of a video; grows by the frame queries of each clip.

    Attributes:
        queries (list of Tensor[T, fQ, C]): frame queries of each clip.
        sizes: input and image size of each clip.
        features: mask features of all clips; None before the first and after the last.
        answer: class probabilities [cQ, K] and mask embeddings [cQ, C], once they were computed,
            and the number of clips that they are for.
    """

    queries: list[Tensor] = field(default_factory=list)
    sizes: list[Sizes] = field(default_factory=list)
    features: FeatureFile | None = None
    answer: tuple[int, Tensor, Tensor] | None = None


@dataclass
class Detections:
    """What the frame detector gives for a training batch.

    Attributes:
        queries (Tensor[L, B, T, fQ, C]): frame queries of the last decoder layers.
        features (Tensor[B, T, C, h, w]): mask features of the clip queries.
        pairs: matches of the frame queries; empty without similarity loss.
        losses: of the detector; empty if it is fixed.
    """

    queries: Tensor
    features: Tensor
    pairs: FramePairs
    losses: dict[str, Tensor]


class AssociatingModel(Baseline):
    """A frame detector with clip queries on top: VITA and GenVIS.

    Args:
        vita_module: associates frame queries.
        last_layers: L, decoder layers of the detector whose queries are learnt from.
        similarity: the similarity loss is in use.
        **shared: arguments of :class:`Baseline`.
    """

    def __init__(
        self,
        *,
        vita_module: ObjectAssociation,
        last_layers: int,
        similarity: bool,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.vita_module = vita_module
        layers = len(self.sem_seg_head.predictor.transformer_cross_attention_layers)
        self.last_layers, self.similarity = min(last_layers, layers), similarity

    @property
    def num_slots(self) -> int:
        """Number cQ of clip queries."""
        return self.vita_module.query_feat.num_embeddings

    def _detect_batch(self, batch: SampleBatch) -> Detections:
        videos, frames = batch.images.shape[:2]
        trained = not self.freeze_detector
        output, fine = self._detect(
            batch.images.flatten(0, 1),
            predict=trained or self.similarity,
            last=self.last_layers,
            detected=batch.detected,
        )
        queries = output.queries[-self.last_layers :].unflatten(1, (videos, frames))
        features = self.vita_module.mask_features(fine).unflatten(0, (videos, frames))
        losses: dict[str, Tensor] = {}
        pairs: list[list[Pairs]] = []
        targets = batch.frame_targets(stream=1, kind=self.masks)
        if trained:
            losses, pairs = self.criterion.losses_and_pairs(output.predictions, targets)
        if self.similarity and len(pairs) < self.last_layers:
            pairs = self._match_frames(output, targets)
        return Detections(queries, features, self._by_video(pairs, targets, frames), losses)

    def _match_frames(self, output: DecoderOutput, targets: list[MaskTarget]) -> list[list[Pairs]]:
        """Match the last predictions of every image."""
        return [
            [
                self.criterion.match(logits, masks[:, None], target)
                for logits, masks, target in zip(
                    one.class_logits, one.mask_logits, targets, strict=True
                )
            ]
            for one in output.predictions[-self.last_layers :]
        ]

    def _by_video(
        self, pairs: list[list[Pairs]], targets: list[MaskTarget], frames: int
    ) -> FramePairs:
        """Sort the pairs of the last predictions by video, with the objects' numbers in it."""
        result: FramePairs = []
        for layer in pairs[-self.last_layers :] if self.similarity else []:
            numbered = []
            for (slots, objects), target in zip(layer, targets, strict=True):
                assert target.ids is not None, "frame targets have numbers"
                numbered.append((slots, target.ids[objects]))
            result.append([numbered[i : i + frames] for i in range(0, len(numbered), frames)])
        return result

    def _unused_parameters(self) -> Iterator[nn.Parameter]:
        yield from super()._unused_parameters()
        if self.train_level == "frame":
            yield from self.vita_module.parameters()
        elif not self.similarity:
            yield from self.vita_module.sim_embed_frame.parameters()
            yield from self.vita_module.sim_embed_clip.parameters()


@META_ARCH_REGISTRY.register()
class VITA(AssociatingModel):
    """Video instance segmentation via object token association, offline.

    The masks of a video exist after its last frame. Until then the frame queries stay in memory
    and the mask features in a temporary file.

    Args:
        vita_criterion: losses of the clip queries.
        **shared: arguments of :class:`AssociatingModel`.
    """

    @configurable
    def __init__(self, *, vita_criterion: ClipCriterion, **shared: Any) -> None:
        super().__init__(similarity=vita_criterion.similarity_weight > 0, **shared)
        self.vita_criterion = vita_criterion
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        return baseline_arguments(cfg, "VITA") | {
            "vita_module": ObjectAssociation(**association_arguments(cfg, heads=True)),
            "vita_criterion": build_clip_criterion(cfg),
            "last_layers": cfg.MODEL.VITA.LAST_LAYER_NUM,
        }

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        found = self._detect_batch(batch)
        clip = self.vita_module(found.queries, similarity=self.similarity)
        losses = self.vita_criterion.clip_losses(
            clip, found.features, batch.mask_targets(self.masks), found.pairs
        )
        return found.losses | {
            name.replace("loss_", "loss_vita_", 1): x for name, x in losses.items()
        }

    def start(self) -> VITAState:
        """Return the state before the first clip of a video."""
        return VITAState()

    @torch.no_grad()
    def forward_clip(
        self, frames: Tensor, state: VITAState, detected: DetectedFrames | None = None
    ) -> tuple[None, VITAState]:
        """Detect the objects of the next clip; see :meth:`VideoSegmenter.forward_clip`."""
        images, sizes = self._prepare_clip(frames)
        with self._test_autocast():
            output, fine = self._detect(images, predict=False, detected=detected)
            features = self.vita_module.mask_features(fine)
        if state.features is None:
            state.features = FeatureFile()
        state.features.append(features)
        state.queries.append(output.queries[-1].float())
        state.sizes.append(sizes)
        return None, state

    @torch.no_grad()
    def finish_clips(self, state: VITAState) -> Iterator[ClipOutput]:
        """Yield the masks of all clips; see :meth:`VideoSegmenter.finish_clips`."""
        if state.features is None:
            return
        _, embeddings = self._associate(state)
        for features, sizes in zip(state.features.read(), state.sizes, strict=True):
            logits = torch.einsum("nc,tchw->nthw", embeddings, features.float())
            yield self._clip_output(logits, sizes)
        state.features.close()
        state.features = None

    @torch.no_grad()
    def class_scores(self, state: VITAState) -> Tensor:
        """Classify the clip queries by all frames so far.

        Args:
            state: after at least one clip.

        Returns:
            Tensor[cQ, K]: probabilities; what is missing to 1 is "no object".

        Raises:
            ValueError: if no clip was processed.
        """
        if not state.queries:
            raise ValueError(
                "class_scores: expected the state after at least one clip, got the first one"
            )
        return self._associate(state)[0]

    def _associate(self, state: VITAState) -> tuple[Tensor, Tensor]:
        """Class probabilities [cQ, K] and mask embeddings [cQ, C] of the frames so far."""
        if state.answer is None or state.answer[0] != len(state.queries):
            with self._test_autocast():
                clip = self.vita_module(torch.cat(state.queries)[None, None], similarity=False)
            scores = clip.class_logits[-1, 0, 0].float().softmax(-1)[:, :-1]
            state.answer = len(state.queries), scores, clip.mask_embed[-1, 0, 0].float()
        return state.answer[1:]


def build_clip_criterion(cfg: CfgNode) -> ClipCriterion:
    """Build the losses of clip queries from ``MODEL.VITA``.

    Args:
        cfg: configuration.

    Returns:
        ClipCriterion: the losses.
    """
    vita = cfg.MODEL.VITA
    return ClipCriterion(
        similarity_weight=vita.SIM_WEIGHT,
        similarity_of_clips=vita.SIM_USE_CLIP,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        no_object_weight=vita.NO_OBJECT_WEIGHT,
        class_weight=vita.CLASS_WEIGHT,
        mask_weight=vita.MASK_WEIGHT,
        dice_weight=vita.DICE_WEIGHT,
        points=point_loss(cfg),
        deep_supervision=vita.DEEP_SUPERVISION,
    )
