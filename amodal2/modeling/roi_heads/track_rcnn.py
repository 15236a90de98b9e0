"""MaskTrack R-CNN with an amodal mask head: AISFormer-TrackRCNN of A2VIS (Sec. 4.2) and others.

Shapes: T frames, N objects or regions, D numbers per embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from torch import Tensor

from amodal2.modeling.roi_heads.amodal_rcnn import GeneralizedRCNNAmodal
from amodal2.modeling.roi_heads.mask_targets import share_masks
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess
from amodal2.modeling.roi_heads.track_linking import (
    LinkWeights,
    TrackHead,
    TrackLinker,
    match_logits,
    track_loss,
)
from amodal2.modeling.roi_heads.track_memory import KINDS, TrackMemory
from amodal2.structures import fields
from amodal2.structures.clip import ClipOutput
from amodal2.structures.track import VideoPrediction

_OCCLUDER_IOU, _OCCLUDER_PIXELS = 0.05, 20  # as data/mappers/occluders.py


@META_ARCH_REGISTRY.register()
class AmodalTrackRCNN(GeneralizedRCNNAmodal):
    """Detects objects frame by frame and joins them by embeddings of their regions.

    Trained on two frames of a sample: the detector on one of them, the embeddings on finding its
    objects in the other. In tests a video is read frame by frame: whole videos of a data set, or
    frames as they come by the predictor of ``amodal2.video`` (``start``, ``forward_clip``,
    ``finish_clips``), with masks of the size of the network's input, after the last frame.

    Attributes:
        clip_len (int): frames per call of ``forward_clip``.
    """

    clip_len = 1

    @configurable
    def __init__(
        self,
        *,
        track_head: TrackHead,
        track_weight: float = 1.0,
        link_weights: LinkWeights,
        top_k: int = 20,
        **kwargs: Any,
    ) -> None:
        """Store the parts.

        Args:
            track_head: embeds the features that the box head pools.
            track_weight: of the loss of the embeddings.
            link_weights: see there.
            top_k: tracks kept per video.
            **kwargs: of :class:`GeneralizedRCNNAmodal`.
        """
        super().__init__(**kwargs)
        self.track_head = track_head
        self.track_weight = track_weight
        self.link_weights = link_weights
        self.top_k = top_k

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        arguments = super().from_config(cfg)
        node = cfg.MODEL.TRACK_RCNN
        level = arguments["backbone"].output_shape()[cfg.MODEL.ROI_HEADS.IN_FEATURES[0]]
        side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        shape = ShapeSpec(channels=level.channels, height=side, width=side)
        return {
            **arguments,
            "track_head": TrackHead(shape, node.HIDDEN_DIM),
            "track_weight": node.LOSS_WEIGHT,
            "link_weights": LinkWeights(node.SCORE_WEIGHT, node.IOU_WEIGHT, node.CLASS_WEIGHT),
            "top_k": cfg.TEST.AMODAL.TOPK,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Learn from samples, or find the tracks of videos.

        Args:
            batched_inputs: training samples or test videos of ``ClipMapper``.

        Returns:
            dict[str, Tensor] | list[dict]: in training the losses; else one ``{"video_id",
            "prediction"}`` per video, with a ``VideoPrediction`` of contiguous class indices.
        """
        if not self.training:
            return [self._predict_video(video) for video in batched_inputs]
        pairs = [_draw_pair(len(sample["frames"])) for sample in batched_inputs]
        frames, truths = [], []
        for place in (0, 1):
            for sample, pair in zip(batched_inputs, pairs, strict=True):
                frames.append(sample["frames"][pair[place]])
                truth = frame_objects(sample["instances"][pair[place]])
                truths.append(truth.to(self.device))
        return self._losses(frames, truths)

    def _losses(self, frames: list[Tensor], truths: list[Instances]) -> dict[str, Tensor]:
        """Return the losses of frames, the first half being those that the detector learns."""
        count = len(frames) // 2
        images, features = self._features(frames)
        own = {name: level[:count] for name, level in features.items()}
        key_images = ImageList(images.tensor[:count], images.image_sizes[:count])
        objects = [share_masks(truth) for truth in truths[:count]]
        proposals, losses = self.proposal_generator(key_images, own, objects)
        proposals, more = self.roi_heads(key_images, own, proposals, objects)
        other = {name: level[count:] for name, level in features.items()}
        regions = [entry[_is_object(entry, self.roi_heads.num_classes)] for entry in proposals]
        found = self._embed(own, [entry.proposal_boxes for entry in regions])
        known = self._embed(other, [truth.gt_boxes for truth in truths[count:]])
        parts = [
            len(entry)
            * track_loss(match_logits(mine, theirs), _ids(entry), truth.get(fields.GT_IDS))
            for entry, mine, theirs, truth in zip(
                regions,
                found.split([len(entry) for entry in regions]),
                known.split([len(truth) for truth in truths[count:]]),
                truths[count:],
                strict=True,
            )
        ]
        total = sum(parts) / max(1, sum(map(len, regions))) + 0 * (found.sum() + known.sum())
        return {**losses, **more, "loss_track": self.track_weight * total}

    def _features(self, frames: list[Tensor]) -> tuple[ImageList, dict[str, Tensor]]:
        """Return the normalised RGB frames [3, H, W] and their features."""
        flip = self.input_format == "BGR"
        images = self.preprocess_image([{"image": f.flip(0) if flip else f} for f in frames])
        return images, self.backbone(images.tensor)

    def _embed(self, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
        """Return the embeddings of the boxes of all images, [N, D]."""
        levels = [features[name] for name in self.roi_heads.box_in_features]
        return self.track_head(self.roi_heads.box_pooler(levels, boxes))

    @torch.no_grad()
    def _predict_video(self, video: dict[str, Any]) -> dict[str, Any]:
        frames, size = video["frames"], (video["height"], video["width"])
        memory = self.start()
        for t in range(len(frames)):
            memory.add(self._find(frames.clip(t, t + 1)[0], size, memory))
        prediction = VideoPrediction(video["video_id"], *size, length=len(frames))
        prediction.tracks = [
            tube.track(number, len(frames)) for number, tube in memory.ranked(self.top_k)
        ]
        return {"video_id": video["video_id"], "prediction": prediction}

    def _find(self, frame: Tensor, size: tuple[int, int], memory: TrackMemory) -> Instances:
        """Detect and link the objects of the next frame (RGB [3, H, W]); masks have the size."""
        images, features = self._features([frame])
        proposals, _ = self.proposal_generator(images, features, None)
        (found,), _ = self.roi_heads(images, features, proposals, None)
        embeddings = self._embed(features, [found.pred_boxes])
        boxes = found.pred_boxes.tensor.clone()
        linker = TrackLinker(self.link_weights, memory.links)
        found.pred_ids = linker(boxes, found.pred_classes, found.scores, embeddings)
        return amodal_postprocess(found, *size, tuple(KINDS), threshold=self.threshold)

    def start(self) -> TrackMemory:
        """Return the state before the first frame of a video."""
        return TrackMemory()

    @torch.no_grad()
    def forward_clip(self, frames: Tensor, state: TrackMemory) -> tuple[None, TrackMemory]:
        """Detect and link the objects of the next frames.

        The tracks are chosen after the last frame, so there is no output before.

        Args:
            frames (Tensor[T, 3, H, W]): RGB, 0 to 255.
            state: of :meth:`start` or of the frames before; changed.

        Returns:
            tuple: None and the state.
        """
        size = (frames.shape[2], frames.shape[3])
        for frame in frames:
            state.add(self._find(frame, size, state))
        return None, state

    def finish_clips(self, state: TrackMemory) -> Iterator[ClipOutput]:
        """Yield the masks of the best tracks, frame by frame."""
        kinds = {kind: any(kind in t.masks for t in state.tubes.values()) for kind in KINDS}
        if not any(kinds.values()):
            kinds["amodal"] = True
        yield from state.outputs(self.top_k, kinds)

    def class_scores(self, state: TrackMemory) -> Tensor:
        """Return the scores of the best tracks by class, [N, K]."""
        return state.class_scores(self.top_k, self.roi_heads.num_classes)

    @property
    def threshold(self) -> float:
        """Lowest probability inside a mask."""
        return self.output["threshold"]


def frame_objects(truth: Instances) -> Instances:
    """Make detection targets of the objects of one frame of a sample.

    Objects without a pixel in the frame are dropped; occluder masks follow the rule of the image
    mapper (every neighbour whose visible box overlaps the amodal box).

    Args:
        truth: as ``ClipMapper`` gives them, N tracks.

    Returns:
        Instances: with ``gt_boxes`` (amodal, else visible), classes, ids and masks.
    """
    whole = fields.GT_AMODAL_MASKS
    masks = whole if truth.has(whole) else fields.GT_VISIBLE_MASKS
    boxes = fields.GT_AMODAL_BOXES if truth.has(whole) else fields.GT_VISIBLE_BOXES
    objects = truth[truth.get(masks).flatten(1).any(dim=1)]
    objects.set(fields.GT_BOXES, objects.get(boxes).clone())
    objects.set(fields.GT_MASKS, objects.get(masks))
    if truth.has(whole):
        objects.set(fields.GT_OCCLUDER_MASKS, _occluders(objects))
    return objects


def _occluders(objects: Instances) -> Tensor:
    """Return what lies over each object, bool [N, H, W]."""
    visible = objects.get(fields.GT_VISIBLE_MASKS)
    amodal_boxes = objects.get(fields.GT_AMODAL_BOXES)
    over = pairwise_iou(amodal_boxes, objects.get(fields.GT_VISIBLE_BOXES)) > _OCCLUDER_IOU
    over.fill_diagonal_(False)
    result = torch.zeros_like(visible)
    for i, (left, top, right, bottom) in enumerate(amodal_boxes.tensor.long().tolist()):
        union = visible[over[i], top:bottom, left:right].any(dim=0)
        if union.sum() > _OCCLUDER_PIXELS:
            result[i, top:bottom, left:right] = union
    return result


def _draw_pair(length: int) -> tuple[int, int]:
    """Draw two different frames of a sample; the same one twice if there is no other."""
    first = int(torch.randint(length, ()))
    step = int(torch.randint(1, length, ())) if length > 1 else 0
    return first, (first + step) % length


def _is_object(regions: Instances, num_classes: int) -> Tensor:
    """Tell foreground regions of frames with objects."""
    classes = regions.get(fields.GT_CLASSES)
    known = regions.has(fields.GT_IDS)
    return (classes >= 0) & (classes < num_classes) & known


def _ids(regions: Instances) -> Tensor:
    """Return the track ids of regions; regions without any have no such field."""
    if regions.has(fields.GT_IDS):
        return regions.get(fields.GT_IDS)
    return regions.get(fields.GT_CLASSES)[:0]
