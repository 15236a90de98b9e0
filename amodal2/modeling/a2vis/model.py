"""The A2VIS meta-architecture: training and clip-wise inference (A2VIS, Sec. 3.2, 4.2).

Shapes: B videos, T frames, N slots, K classes, C channels; H W the padded input, h w at stride 4.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn

from amodal2.modeling.a2vis.criterion import VideoCriterion, VideoOutput, VideoTarget
from amodal2.modeling.a2vis.head import A2VISHead, ClipResult, build_a2vis_head
from amodal2.modeling.a2vis.padding import pad_to_multiple, valid_area
from amodal2.modeling.a2vis.targets import SampleBatch, collect_batch
from amodal2.modeling.mask_classification.criterion import MaskTarget, PointLoss, SetCriterion
from amodal2.modeling.mask_classification.head import MaskFormerHead, build_mask_former_head
from amodal2.modeling.mask_classification.object_association import ClipQueries, ObjectAssociation
from amodal2.modeling.mask_classification.transformer_decoder import DecoderOutput, MaskPrediction
from amodal2.structures.clip import ClipOutput
from amodal2.structures.tube_spool import TubeSpool


@dataclass
class A2VISState:
    """What A2VIS carries from clip to clip.

    Attributes:
        prototypes (Tensor[1, N, C] or None): global prototypes; None before the first clip.
    """

    prototypes: Tensor | None = None


@META_ARCH_REGISTRY.register()
class A2VIS(nn.Module):
    """Amodal-aware video instance segmentation with global instance prototypes.

    Args:
        backbone: gives res2 … res5.
        sem_seg_head: pixel decoder and mask decoder of the frame detector.
        vita_module: associates frame queries into clip prototypes.
        a2vis: global prototypes, visible head, SAMH and class head.
        criterion: losses of the frame detector.
        video_criterion: losses of whole videos.
        pixel_mean: RGB mean, 0..255.
        pixel_std: RGB standard deviation, 0..255.
        size_divisibility: inputs are padded to a multiple of this.
        clip_len: frames per clip N_c.
        sample_len: frames of a training sample; shorter samples repeat their last frame.
        train_level: "frame" or "video".
        freeze_detector: keep the frame detector fixed at video level.
        detector_loss: add the frame detector's losses at video level.
        detach_every: cut gradients between clips every so many clips; 0 never.
        aux_clip_loss: add VITA's class and mask losses, without its similarity loss; needs the
            heads of ``vita_module``.
        top_k: tracks kept per video.
        min_visible_px: visible pixels from which a track counts as seen.
        union_visible: add the visible masks to the amodal ones.
        test_amp: bfloat16 autocast in inference.

    Raises:
        ValueError: if a setting is unknown or contradicts another one.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: MaskFormerHead,
        vita_module: ObjectAssociation,
        a2vis: A2VISHead,
        criterion: SetCriterion,
        video_criterion: VideoCriterion,
        pixel_mean: list[float],
        pixel_std: list[float],
        size_divisibility: int = 32,
        clip_len: int = 3,
        sample_len: int = 15,
        train_level: str = "video",
        freeze_detector: bool = True,
        detector_loss: bool = False,
        detach_every: int = 0,
        aux_clip_loss: bool = False,
        top_k: int = 20,
        min_visible_px: int = 1,
        union_visible: bool = False,
        test_amp: bool = False,
    ) -> None:
        super().__init__()
        if train_level not in ("frame", "video"):
            raise ValueError(f"A2VIS: expected TRAIN_LEVEL frame or video, got {train_level!r}")
        if detector_loss and freeze_detector:
            raise ValueError(
                "A2VIS: expected FREEZE_DETECTOR False with DETECTOR_LOSS True, got True; a fixed "
                "detector has no use for losses"
            )
        self.backbone, self.sem_seg_head = backbone, sem_seg_head
        self.vita_module, self.a2vis = vita_module, a2vis
        self.criterion, self.video_criterion = criterion, video_criterion
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.size_divisibility = size_divisibility
        self.clip_len, self.sample_len = clip_len, sample_len
        self.train_level, self.detector_loss = train_level, detector_loss
        self.freeze_detector = freeze_detector and train_level == "video"
        self.detach_every, self.aux_clip_loss = detach_every, aux_clip_loss
        self.top_k, self.min_visible_px = top_k, min_visible_px
        self.union_visible, self.test_amp = union_visible, test_amp
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        if cfg.INPUT.FORMAT != "RGB":
            raise ValueError(
                f"A2VIS: expected INPUT.FORMAT RGB, got {cfg.INPUT.FORMAT!r}; frames are read as "
                "RGB, so set it and the order of MODEL.PIXEL_MEAN and MODEL.PIXEL_STD accordingly"
            )
        backbone = build_backbone(cfg)
        node, former, vita = cfg.MODEL.A2VIS, cfg.MODEL.MASK_FORMER, cfg.MODEL.VITA
        num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        points = PointLoss(
            former.TRAIN_NUM_POINTS, former.OVERSAMPLE_RATIO, former.IMPORTANCE_SAMPLE_RATIO
        )
        return {
            "backbone": backbone,
            "sem_seg_head": build_mask_former_head(cfg, backbone.output_shape()),
            "vita_module": ObjectAssociation(
                in_dim=former.HIDDEN_DIM,
                mask_feature_dim=cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
                hidden_dim=vita.HIDDEN_DIM,
                num_classes=num_classes,
                num_frame_queries=former.NUM_OBJECT_QUERIES,
                num_queries=vita.NUM_OBJECT_QUERIES,
                num_heads=vita.NHEADS,
                hidden_ffn=vita.DIM_FEEDFORWARD,
                enc_layers=vita.ENC_LAYERS,
                dec_layers=vita.DEC_LAYERS,
                window_size=vita.ENC_WINDOW_SIZE,
                enforce_input_proj=vita.ENFORCE_INPUT_PROJ,
                heads=node.AUX_CLIP_LOSS,
            ),
            "a2vis": build_a2vis_head(cfg),
            "criterion": SetCriterion(
                num_classes=num_classes,
                no_object_weight=former.NO_OBJECT_WEIGHT,
                class_weight=former.CLASS_WEIGHT,
                mask_weight=former.MASK_WEIGHT,
                dice_weight=former.DICE_WEIGHT,
                points=points,
                deep_supervision=former.DEEP_SUPERVISION,
            ),
            "video_criterion": VideoCriterion(
                num_classes=num_classes,
                no_object_weight=former.NO_OBJECT_WEIGHT,
                class_weight=node.LOSS.CLASS_WEIGHT,
                mask_weight=node.LOSS.MASK_WEIGHT,
                amodal_weight=node.LOSS.AMODAL_WEIGHT,
                dice_weight=node.LOSS.DICE_WEIGHT,
                points=points,
                deep_supervision=node.LOSS.DEEP_SUPERVISION,
                clip_class_weight=node.CLIP_CLASS_WEIGHT,
                match=node.MATCH,
            ),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": former.SIZE_DIVISIBILITY,
            "clip_len": cfg.INPUT.AMODAL.CLIP_LEN,
            "sample_len": cfg.INPUT.AMODAL.CLIP_LEN * cfg.INPUT.AMODAL.NUM_CLIPS,
            "train_level": node.TRAIN_LEVEL,
            "freeze_detector": node.FREEZE_DETECTOR,
            "detector_loss": node.DETECTOR_LOSS,
            "detach_every": node.DETACH_EVERY,
            "aux_clip_loss": node.AUX_CLIP_LOSS,
            "top_k": cfg.TEST.AMODAL.TOPK,
            "min_visible_px": cfg.TEST.AMODAL.MIN_VISIBLE_PX,
            "union_visible": cfg.TEST.AMODAL.UNION_VISIBLE,
            "test_amp": cfg.TEST.AMODAL.AMP,
        }

    pixel_mean: Tensor
    pixel_std: Tensor

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> "A2VIS":
        """Switch the training mode; a fixed detector stays in evaluation mode.

        Args:
            mode: True for training.

        Returns:
            the model itself.
        """
        super().train(mode)
        if self.freeze_detector:
            self.backbone.eval()
            self.sem_seg_head.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Compute losses in training, tracks otherwise.

        Args:
            batched_inputs: training samples or test videos as the clip mapper makes them.

        Returns:
            dict of weighted losses in training; else one ``{"video_id", "prediction"}`` per video,
            with a :class:`amodal2.structures.track.VideoPrediction` whose categories are contiguous
            class indices.
        """
        if not self.training:
            return [self._predict_video(video) for video in batched_inputs]
        batch = collect_batch(
            batched_inputs, self._normalise, self.size_divisibility, self.sample_len
        )
        if self.train_level == "frame":
            return self._frame_losses(batch)
        return self._video_losses(batch)

    # Training.

    def _frame_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        output, _ = self._detect(batch.images.flatten(0, 1), predict=True)
        return self.criterion(output.predictions, batch.frame_targets())

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        videos, frames = batch.images.shape[:2]
        output, fine = self._detect(batch.images.flatten(0, 1), predict=self.detector_loss)
        queries = output.queries[-1].unflatten(0, (videos, frames))
        features = self.vita_module.mask_features(fine).unflatten(0, (videos, frames))
        valid = batch.valid_at((features.shape[-2], features.shape[-1]))
        targets = batch.video_targets(with_amodal=self.a2vis.samh is not None)
        losses: dict[str, Tensor] = {}
        num_clips = -(-frames // self.clip_len)
        prototypes: Tensor | None = None
        results: list[ClipResult] = []
        for i, start in enumerate(range(0, frames, self.clip_len)):
            clip = slice(start, start + self.clip_len)
            clip_queries = self.vita_module(
                queries[None, :, clip], predict=self.aux_clip_loss, similarity=False
            )
            if prototypes is not None and self.detach_every and i % self.detach_every == 0:
                prototypes = prototypes.detach()
            result = self.a2vis(prototypes, clip_queries.queries[-1, 0], features[:, clip], valid)
            prototypes = result.carried
            results.append(result)
            if self.aux_clip_loss:
                aux = self._clip_losses(clip_queries, features[:, clip], targets, clip)
                losses = {name: losses.get(name, 0.0) + x / num_clips for name, x in aux.items()}
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
            MaskPrediction(logits[0], torch.einsum("bnc,btchw->bnthw", embed[0], features))
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
    def forward_clip(self, frames: Tensor, state: A2VISState) -> tuple[ClipOutput, A2VISState]:
        """Process the next clip of a video.

        Args:
            frames (Tensor[T, 3, H, W]): RGB in 0..255, any dtype and device; T up to the clip
                length.
            state: from :meth:`start` or the clip before.

        Returns:
            ClipOutput with logits at stride 4 (float32), and the state for the next clip.
        """
        images = self._normalise(frames)
        height, width = images.shape[-2:]
        images = pad_to_multiple(images, self.size_divisibility)
        padded = (images.shape[-2], images.shape[-1])
        with self._test_autocast():
            output, fine = self._detect(images, predict=False)
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

    def _predict_video(self, video: dict[str, Any]) -> dict[str, Any]:
        frames, state = video["frames"], self.start()
        slots = self.a2vis.global_query_embed.num_embeddings
        spool = TubeSpool(
            slots,
            (video["height"], video["width"]),
            min_visible_px=self.min_visible_px,
            union_visible=self.union_visible,
        )
        with contextlib.closing(spool):
            for start in range(0, len(frames), self.clip_len):
                clip = frames.clip(start, min(start + self.clip_len, len(frames)))
                output, state = self.forward_clip(clip, state)
                spool.add(output)
            prediction = spool.finish(self.class_scores(state), self.top_k)
        prediction.video_id = video["video_id"]
        return {"video_id": video["video_id"], "prediction": prediction}

    # Shared.

    def _detect(self, images: Tensor, *, predict: bool) -> tuple[DecoderOutput, Tensor]:
        with torch.no_grad() if self.freeze_detector else contextlib.nullcontext():
            return self.sem_seg_head(self.backbone(images), predict=predict)

    def _normalise(self, frames: Tensor) -> Tensor:
        return (frames.to(self.device, torch.float32) - self.pixel_mean) / self.pixel_std

    def _test_autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.test_amp)

    def _fix_unused_parameters(self) -> None:
        """Take parameters that the training level does not reach out of the optimisation."""
        for parameter in self._unused_parameters():
            parameter.requires_grad_(False)

    def _unused_parameters(self) -> Iterator[nn.Parameter]:
        if self.freeze_detector:
            yield from self.backbone.parameters()
            yield from self.sem_seg_head.parameters()
        elif self.train_level == "video" and not self.detector_loss:
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
