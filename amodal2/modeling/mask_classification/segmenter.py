"""What all video models on a query-based frame detector share: training levels, clips, tracks.

Shapes: B videos, T frames, N slots, K classes; H W the padded input, h w at stride 4.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor, nn

from amodal2.modeling.mask_classification.criterion import PointLoss, SetCriterion
from amodal2.modeling.mask_classification.head import MaskFormerHead, build_mask_former_head
from amodal2.modeling.mask_classification.targets import SampleBatch, collect_batch
from amodal2.modeling.mask_classification.transformer_decoder import DecoderOutput
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames
from amodal2.structures.tube_spool import TubeSpool
from amodal2.utils.batch_mean import only_counting

_SMALLEST_PX = 32  # one cell of the coarsest features


class VideoSegmenter(nn.Module, ABC):
    """A frame detector with something that follows its objects through a video.

    A subclass ends its ``__init__`` with :meth:`_fix_unused_parameters`.

    Args:
        backbone: gives res2 … res5.
        sem_seg_head: pixel decoder and mask decoder of the frame detector.
        criterion: losses of the frame detector.
        pixel_mean: RGB mean, 0..255.
        pixel_std: RGB standard deviation, 0..255.
        size_divisibility: inputs are padded to a multiple of this.
        clip_len: frames per clip N_c.
        sample_len: frames of a training sample; shorter samples repeat their last frame.
        train_level: "frame" or "video".
        freeze_detector: keep the frame detector fixed at video level.
        top_k: tracks kept per video.
        min_visible_px: visible pixels from which a track counts as seen.
        union_visible: add the visible masks to the amodal ones.
        mask_quality: scores take the mean probability inside the masks into account.
        test_amp: bfloat16 autocast in inference.

    Raises:
        ValueError: if ``train_level`` is unknown.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: MaskFormerHead,
        criterion: SetCriterion,
        pixel_mean: list[float],
        pixel_std: list[float],
        size_divisibility: int = 32,
        clip_len: int = 3,
        sample_len: int = 15,
        train_level: str = "video",
        freeze_detector: bool = True,
        top_k: int = 20,
        min_visible_px: int = 1,
        union_visible: bool = False,
        mask_quality: bool = True,
        test_amp: bool = False,
    ) -> None:
        super().__init__()
        if train_level not in ("frame", "video"):
            name = type(self).__name__
            raise ValueError(f"{name}: expected TRAIN_LEVEL frame or video, got {train_level!r}")
        self.backbone, self.sem_seg_head, self.criterion = backbone, sem_seg_head, criterion
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.size_divisibility = size_divisibility
        self.clip_len, self.sample_len = clip_len, sample_len
        self.train_level = train_level
        self.freeze_detector = freeze_detector and train_level == "video"
        self.top_k, self.min_visible_px = top_k, min_visible_px
        self.union_visible, self.mask_quality = union_visible, mask_quality
        self.test_amp = test_amp

    pixel_mean: Tensor
    pixel_std: Tensor

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    @property
    @abstractmethod
    def num_slots(self) -> int:
        """Number N of slots whose masks a clip has."""

    @abstractmethod
    def start(self) -> Any:
        """Return the state before the first clip of a video."""

    @abstractmethod
    def forward_clip(
        self, frames: Tensor, state: Any, detected: DetectedFrames | None = None
    ) -> tuple[ClipOutput | None, Any]:
        """Process the next clip of a video.

        Args:
            frames (Tensor[T, 3, H, W]): RGB in 0..255, any dtype and device; T up to the clip
                length.
            state: from :meth:`start` or the clip before; used up.
            detected: what the fixed detector gave for these frames; None runs it.

        Returns:
            ClipOutput with logits at stride 4 (float32), or None if the model gives the outputs of
            all clips at the end; and the state for the next clip.
        """

    def finish_clips(self, state: Any) -> Iterator[ClipOutput]:
        """Yield the outputs that :meth:`forward_clip` held back, in order.

        Args:
            state: after the last clip; used up.

        Yields:
            ClipOutput: none for a model that gives each clip's output at once.
        """
        return iter(())

    @abstractmethod
    def class_scores(self, state: Any) -> Tensor:
        """Classify the slots.

        Args:
            state: after at least one clip.

        Returns:
            Tensor[N, K]: probabilities; what is missing to 1 is "no object".

        Raises:
            ValueError: if no clip was processed.
        """

    @abstractmethod
    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Weighted losses of whole samples."""

    def train(self, mode: bool = True) -> "VideoSegmenter":
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

    def _frame_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        """Weighted losses of single frames."""
        output, _ = self._detect(batch.images.flatten(0, 1), predict=True, detected=batch.detected)
        return self.criterion(output.predictions, batch.frame_targets())

    @torch.no_grad()
    def _predict_video(self, video: dict[str, Any]) -> dict[str, Any]:
        frames, state = video["frames"], self.start()
        spool = TubeSpool(
            self.num_slots,
            (video["height"], video["width"]),
            min_visible_px=self.min_visible_px,
            union_visible=self.union_visible,
            mask_quality=self.mask_quality,
        )
        with contextlib.closing(spool):
            for start in range(0, len(frames), self.clip_len):
                clip = frames.clip(start, min(start + self.clip_len, len(frames)))
                output, state = self.forward_clip(
                    clip, state, **_known_clip(video, start, len(clip))
                )
                if output is not None:
                    spool.add(output)
            for output in self.finish_clips(state):
                spool.add(output)
            prediction = spool.finish(self.class_scores(state), self.top_k)
        prediction.video_id = video["video_id"]
        return {"video_id": video["video_id"], "prediction": prediction}

    def _detect(
        self,
        images: Tensor,
        *,
        predict: bool,
        last: int = 1,
        detected: DetectedFrames | None = None,
        **options: Any,
    ) -> tuple[DecoderOutput, Tensor]:
        if detected is not None:
            return self._repeat(detected, predict=predict, last=last)
        if only_counting():  # what is counted depends on the targets alone
            images = images[..., :_SMALLEST_PX, :_SMALLEST_PX]
        with torch.no_grad() if self.freeze_detector else contextlib.nullcontext():
            features = self.backbone(images)
            return self.sem_seg_head(features, predict=predict, last=last, **options)

    def _refuse_known(self, detected: DetectedFrames | None) -> None:
        """Stop at outputs of a detector that is not the fixed one of this model."""
        if detected is not None and not self.freeze_detector:
            raise ValueError(
                f"{type(self).__name__}: expected no known outputs of a detector that is trained, "
                "got some; set FREEZE_DETECTOR True or MODEL.MASK_FORMER.CACHE_DIR ''"
            )

    @torch.no_grad()
    def _repeat(
        self, detected: DetectedFrames, *, predict: bool, last: int
    ) -> tuple[DecoderOutput, Tensor]:
        """Give the outputs of the fixed detector that are known already."""
        self._refuse_known(detected)
        queries = detected.queries.to(self.device, torch.float32)
        fine = detected.fine.to(self.device, torch.float32)
        return self.sem_seg_head.repeat(queries, fine, predict=predict, last=last), fine

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


def _known_clip(video: dict[str, Any], start: int, length: int) -> dict[str, DetectedFrames]:
    """What the test video knows of its clip's detector outputs, as an argument."""
    if "detected" not in video:
        return {}
    return {"detected": video["detected"].clip(start, start + length)}


def point_loss(cfg: CfgNode) -> PointLoss:
    """Build the point losses from ``MODEL.MASK_FORMER``.

    Args:
        cfg: configuration.

    Returns:
        PointLoss: the losses.
    """
    former = cfg.MODEL.MASK_FORMER
    return PointLoss(
        former.TRAIN_NUM_POINTS, former.OVERSAMPLE_RATIO, former.IMPORTANCE_SAMPLE_RATIO
    )


def segmenter_arguments(
    cfg: CfgNode, name: str, head_type: type[MaskFormerHead] = MaskFormerHead
) -> dict[str, Any]:
    """Translate the keys that all models share into arguments of :class:`VideoSegmenter`.

    Args:
        cfg: configuration.
        name: the model's, for messages.
        head_type: head of the frame detector.

    Returns:
        dict: keyword arguments, without ``train_level`` and ``freeze_detector``.

    Raises:
        ValueError: if ``INPUT.FORMAT`` is not RGB.
    """
    if cfg.INPUT.FORMAT != "RGB":
        raise ValueError(
            f"{name}: expected INPUT.FORMAT RGB, got {cfg.INPUT.FORMAT!r}; frames are read as "
            "RGB, so set it and the order of MODEL.PIXEL_MEAN and MODEL.PIXEL_STD accordingly"
        )
    backbone = build_backbone(cfg)
    former, clips, test = cfg.MODEL.MASK_FORMER, cfg.INPUT.AMODAL, cfg.TEST.AMODAL
    return {
        "backbone": backbone,
        "sem_seg_head": build_mask_former_head(cfg, backbone.output_shape(), head_type),
        "criterion": SetCriterion(
            num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            no_object_weight=former.NO_OBJECT_WEIGHT,
            class_weight=former.CLASS_WEIGHT,
            mask_weight=former.MASK_WEIGHT,
            dice_weight=former.DICE_WEIGHT,
            points=point_loss(cfg),
            deep_supervision=former.DEEP_SUPERVISION,
        ),
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "size_divisibility": former.SIZE_DIVISIBILITY,
        "clip_len": clips.CLIP_LEN,
        "sample_len": clips.CLIP_LEN * clips.NUM_CLIPS,
        "top_k": test.TOPK,
        "min_visible_px": test.MIN_VISIBLE_PX,
        "union_visible": test.UNION_VISIBLE,
        "mask_quality": test.MASK_QUALITY,
        "test_amp": test.AMP,
    }
