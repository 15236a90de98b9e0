"""The A2VIS meta-architecture: training and clip-wise inference (A2VIS, Sec. 3.2, 4.2).

Shapes: B videos, T frames, N slots, K classes, C channels; H W the padded input, h w at stride 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from amodal2.modeling.a2vis.attention_maps import record_attention
from amodal2.modeling.a2vis.criterion import VideoCriterion, VideoOutput
from amodal2.modeling.a2vis.head import A2VISHead, ClipResult, build_a2vis_head
from amodal2.modeling.a2vis.vita_start import check_vita_start, start_from_vita
from amodal2.modeling.mask_classification.criterion import MaskTarget
from amodal2.modeling.mask_classification.object_association import (
    ClipQueries,
    ObjectAssociation,
    association_arguments,
)
from amodal2.modeling.mask_classification.padding import pad_to_multiple, valid_area
from amodal2.modeling.mask_classification.segmenter import (
    VideoSegmenter,
    point_loss,
    segmenter_arguments,
)
from amodal2.modeling.mask_classification.slot_masks import BatchMasks
from amodal2.modeling.mask_classification.targets import SampleBatch, VideoTarget
from amodal2.modeling.mask_classification.transformer_decoder import ProductPrediction
from amodal2.structures.attention_maps import AttentionMaps
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames


@dataclass
class A2VISState:
    """What A2VIS carries from clip to clip.

    Attributes:
        prototypes (Tensor[1, N, C] or None): global prototypes; None before the first clip.
    """

    prototypes: Tensor | None = None


@META_ARCH_REGISTRY.register()
class A2VIS(VideoSegmenter):
    """Amodal-aware video instance segmentation with global instance prototypes.

    Args:
        vita_module: associates frame queries into clip prototypes.
        a2vis: global prototypes, visible head, SAMH and class head.
        video_criterion: losses of whole videos.
        detector_loss: add the frame detector's losses at video level.
        detach_every: cut gradients between clips every so many clips; 0 never.
        aux_clip_loss: add VITA's class and mask losses, without its similarity loss; needs the
            heads of ``vita_module``.
        start: how ``a2vis`` begins with weights that hold VITA without it, "random" or "vita".
        **shared: arguments of :class:`VideoSegmenter`.

    Raises:
        ValueError: if a setting is unknown or contradicts another one.
    """

    @configurable
    def __init__(
        self,
        *,
        vita_module: ObjectAssociation,
        a2vis: A2VISHead,
        video_criterion: VideoCriterion,
        detector_loss: bool = False,
        detach_every: int = 0,
        aux_clip_loss: bool = False,
        start: str = "random",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if start not in ("random", "vita"):
            raise ValueError(f"A2VIS: expected START random or vita, got {start!r}")
        if start == "vita":
            check_vita_start(a2vis)
        if detector_loss and shared.get("freeze_detector", True):
            raise ValueError(
                "A2VIS: expected FREEZE_DETECTOR False with DETECTOR_LOSS True, got True; a fixed "
                "detector has no use for losses"
            )
        self.vita_module, self.a2vis = vita_module, a2vis
        self.video_criterion, self.detector_loss = video_criterion, detector_loss
        self.detach_every, self.aux_clip_loss = detach_every, aux_clip_loss
        self.start_as_vita = start == "vita"
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.A2VIS
        return segmenter_arguments(cfg, "A2VIS") | {
            "vita_module": ObjectAssociation(
                **association_arguments(cfg, heads=node.AUX_CLIP_LOSS)
            ),
            "a2vis": build_a2vis_head(cfg),
            "video_criterion": VideoCriterion(
                num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
                no_object_weight=cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
                class_weight=node.LOSS.CLASS_WEIGHT,
                mask_weight=node.LOSS.MASK_WEIGHT,
                amodal_weight=node.LOSS.AMODAL_WEIGHT,
                dice_weight=node.LOSS.DICE_WEIGHT,
                points=point_loss(cfg),
                deep_supervision=node.LOSS.DEEP_SUPERVISION,
                clip_class_weight=node.CLIP_CLASS_WEIGHT,
                match=node.MATCH,
            ),
            "train_level": node.TRAIN_LEVEL,
            "freeze_detector": node.FREEZE_DETECTOR,
            "detector_loss": node.DETECTOR_LOSS,
            "detach_every": node.DETACH_EVERY,
            "aux_clip_loss": node.AUX_CLIP_LOSS,
            "start": node.START,
        }

    @property
    def num_slots(self) -> int:
        """Number N of global prototypes."""
        return self.a2vis.global_query_embed.num_embeddings

    def start_missing(self, weights: Mapping[str, Any]) -> dict[str, str]:
        """Set what a file with VITA's weights lacks, after it was loaded, if ``start`` is "vita".

        Args:
            weights: arrays or tensors by name, as the file has them under our names.

        Returns:
            dict[str, str]: parameter to the entry that it was made from; those without a
                counterpart in VITA are not listed.
        """
        own = any(name.startswith("a2vis.update.") for name in weights)
        if not self.start_as_vita or own or "vita_module.decoder_norm.weight" not in weights:
            return {}
        vita = {n: torch.as_tensor(x) for n, x in weights.items() if n.startswith("vita_module.")}
        return start_from_vita(self.a2vis, vita)

    # Training.

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        videos, frames = batch.images.shape[:2]
        output, fine = self._detect(
            batch.images.flatten(0, 1), predict=self.detector_loss, detected=batch.detected
        )
        queries = output.queries[-1].unflatten(0, (videos, frames))
        features = self.vita_module.mask_features(fine).unflatten(0, (videos, frames))
        valid = batch.valid_at((features.shape[-2], features.shape[-1]))
        targets = batch.video_targets(with_amodal=self.a2vis.samh is not None)
        losses: dict[str, Tensor] = {}
        # Split rather than sliced: one gradient of the whole, not one for each time a clip is read.
        clips = features.split(self.clip_len, dim=1)
        prototypes: Tensor | None = None
        results: list[ClipResult] = []
        for i, clip_features in enumerate(clips):
            clip = slice(i * self.clip_len, (i + 1) * self.clip_len)
            clip_queries = self.vita_module(
                queries[None, :, clip], predict=self.aux_clip_loss, similarity=False
            )
            if prototypes is not None and self.detach_every and i % self.detach_every == 0:
                prototypes = prototypes.detach()
            result = self.a2vis(prototypes, clip_queries.queries[-1, 0], clip_features, valid)
            prototypes = result.carried
            results.append(result)
            if self.aux_clip_loss:
                aux = self._clip_losses(clip_queries, clip_features, targets, clip)
                losses = {name: losses.get(name, 0.0) + x / len(clips) for name, x in aux.items()}
        losses.update(self.video_criterion(self._join_clips(results), targets))
        if self.detector_loss:
            detector = self.criterion(output.predictions, batch.frame_targets(stream=1))
            losses.update(
                {name.replace("loss_", "loss_frame_", 1): x for name, x in detector.items()}
            )
        return losses

    def _join_clips(self, results: list[ClipResult]) -> VideoOutput:
        """Put the clips of a batch of videos behind one another and classify the prototypes."""
        amodal = zip(*(r.amodal_logits for r in results), strict=True)
        earlier = results[:-1] if self.video_criterion.clip_class_weight else []
        return VideoOutput(
            class_logits=self.a2vis.classify(results[-1].carried),
            visible_logits=torch.cat([r.visible_logits for r in results], dim=2),
            amodal_logits=[torch.cat(steps, dim=2) for steps in amodal],
            clip_class_logits=[self.a2vis.classify(r.carried) for r in earlier],
            clip_lengths=[r.visible_logits.shape[2] for r in results],
        )

    def _clip_losses(
        self, queries: ClipQueries, features: Tensor, targets: list[VideoTarget], clip: slice
    ) -> dict[str, Tensor]:
        """VITA's losses on the visible masks of one clip, by object decoder layer."""
        classes, embeddings = queries.class_logits, queries.mask_embed
        if classes is None or embeddings is None:
            raise ValueError("A2VIS: expected a vita_module with heads for AUX_CLIP_LOSS, got none")
        predictions = [
            ProductPrediction(logits[0], BatchMasks(embed[0], features))
            for logits, embed in zip(classes, embeddings, strict=True)
        ]
        clip_targets = []
        for target in targets:
            masks = target.visible[:, clip]
            seen = masks.flatten(1).any(1)
            clip_targets.append(MaskTarget(target.labels[seen], masks[seen], target.generator))
        losses = self.criterion(predictions, clip_targets)
        return {name.replace("loss_", "loss_vita_", 1): x for name, x in losses.items()}

    # Inference.

    def start(self) -> A2VISState:
        """Return the state before the first clip of a video."""
        return A2VISState()

    @torch.no_grad()
    def forward_clip(
        self, frames: Tensor, state: A2VISState, detected: DetectedFrames | None = None
    ) -> tuple[ClipOutput, A2VISState]:
        """Process the next clip of a video.

        Args:
            frames (Tensor[T, 3, H, W]): RGB in 0..255, any dtype and device; T up to the clip
                length.
            state: from :meth:`start` or the clip before.
            detected: what the fixed detector gave for these frames; None runs it.

        Returns:
            ClipOutput with logits at stride 4 (float32), and the state for the next clip.
        """
        images = self._normalise(frames)
        height, width = images.shape[-2:]
        images = pad_to_multiple(images, self.size_divisibility)
        padded = (images.shape[-2], images.shape[-1])
        with self._test_autocast():
            output, fine = self._detect(images, predict=False, detected=detected)
            clip_queries = self.vita_module(
                output.queries[-1][None, None], predict=False, similarity=False
            )
            features = self.vita_module.mask_features(fine)[None]
            valid = valid_area(
                (height, width), padded, (features.shape[-2], features.shape[-1]), fine
            )
            result = self.a2vis(
                state.prototypes, clip_queries.queries[-1, 0], features, valid[None]
            )
        amodal = result.amodal_logits[-1][0].float() if result.amodal_logits else None
        clip = ClipOutput(
            visible_logits=result.visible_logits[0].float(),
            amodal_logits=amodal,
            padded_size=padded,
            image_size=(height, width),
        )
        return clip, A2VISState(result.carried.float())

    @torch.no_grad()
    def class_scores(self, state: A2VISState) -> Tensor:
        """Classify the slots by the prototypes carried out of the last clip.

        Args:
            state: after at least one clip.

        Returns:
            Tensor[N, K]: probabilities; what is missing to 1 is "no object".

        Raises:
            ValueError: if no clip was processed.
        """
        if state.prototypes is None:
            raise ValueError(
                "class_scores: expected the state after at least one clip, got the first one"
            )
        return self.a2vis.classify(state.prototypes)[0].softmax(-1)[:, :-1]

    def record_attention(self, slots: Sequence[int]) -> AbstractContextManager[list[AttentionMaps]]:
        """Collect where the amodal head looks, of every clip that :meth:`forward_clip` works on.

        Args:
            slots: indices of the slots, in the order of the maps.

        Returns:
            context manager: gives a list to which each clip adds an entry.

        Raises:
            ValueError: if the model has no amodal head.
        """
        if self.a2vis.samh is None:
            raise ValueError(
                "A2VIS.record_attention: expected MODEL.A2VIS.SAMH.ENABLED True, got False; "
                "without SAMH there is no such attention"
            )
        return record_attention(self.a2vis.samh, slots)

    def _unused_parameters(self) -> Iterator[nn.Parameter]:
        yield from super()._unused_parameters()
        if self.train_level == "video" and not self.freeze_detector and not self.detector_loss:
            yield from self.sem_seg_head.predictor.class_embed.parameters()
            yield from self.sem_seg_head.predictor.mask_embed.parameters()
            yield from self.sem_seg_head.pixel_decoder.mask_features.parameters()
        if self.train_level == "frame":
            yield from self.vita_module.parameters()
            yield from self.a2vis.parameters()
            return
        if self.a2vis.init == "first_clip" and self.sample_len <= self.clip_len:
            yield from self.a2vis.update.parameters()
            if self.a2vis.samh is None or not self.a2vis.samh.pos_enc:
                yield from self.a2vis.global_query_embed.parameters()
        if self.aux_clip_loss:
            yield from self.vita_module.sim_embed_frame.parameters()
            yield from self.vita_module.sim_embed_clip.parameters()
