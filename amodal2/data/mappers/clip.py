"""Mapper from a video's dataset dict to a training sample or to a lazily decoded test video.

Shapes: T sampled frames, N tracks, H W transformed frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes, Instances

from amodal2.data.detections import LazyDetections, open_detections
from amodal2.data.lazy_frames import LazyFrames, frames_to_tensor
from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY
from amodal2.data.samplers import sample_frame_indices
from amodal2.data.transforms import (
    CameraMotion,
    ClipGeometry,
    GeometrySampler,
    decode_masks,
    first_visible_frames,
    mask_boxes,
    random_camera_motion,
    random_color_change,
    shortest_edge_size,
)
from amodal2.structures import fields
from amodal2.structures.detector_cache import DetectorCache, video_key
from amodal2.utils.frames import open_frames

_MAX_DRAWS = 8  # reference frames tried until one shows an object
_BOXES_OF = {
    fields.GT_VISIBLE_MASKS: fields.GT_VISIBLE_BOXES,
    fields.GT_AMODAL_MASKS: fields.GT_AMODAL_BOXES,
}


@AMODAL_MAPPER_REGISTRY.register()
class ClipMapper:
    """Samples clips of a video with the visible masks, amodal masks and ids of its tracks.

    1. Draws NUM_CLIPS * CLIP_LEN frames around a random reference frame and decodes only these.
    2. Applies one crop, resize, flip and colour change to all of them and to both kinds of masks.
    3. Recomputes visibility on the transformed masks: tracks that are never visible are dropped,
    amodal masks before
       a track's first visible frame are emptied (A2VIS, Sec. 3.1; the sample's first frame counts
       as the start).

    A video of one frame becomes a clip under a moving camera if ``pseudo`` is given, else it gives
    one frame. In test mode the frames stay on disk until the model asks for them.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        clip_len: int,
        num_clips: int,
        frame_range: int,
        geometry: GeometrySampler | None,
        min_visible_px: int = 1,
        color_jitter: float = 0.0,
        pseudo: dict[str, float] | None = None,
        test_size: tuple[int, int] = (0, 0),
        detections: DetectorCache | None = None,
    ) -> None:
        """Store the settings.

        Args:
            is_train: training samples, or whole videos.
            clip_len: frames per clip.
            num_clips: clips per training sample.
            frame_range: frames of a sample lie within +- this many frames of its reference frame.
            geometry: draws crop, size and flip; None keeps the frames as they are.
            min_visible_px: visible pixels, after the transforms, from which an object counts as
                seen.
            color_jitter: strength of the colour change in [0, 1].
            pseudo: "rotation", "zoom" and "shift" of :func:`random_camera_motion` for videos of one
                frame.
            test_size: shorter edge and limit of the longer edge of test frames in pixels, 0 for the
                original.
            detections: outputs of the fixed detector for the frames as ``geometry`` or
                ``test_size`` makes them.

        Raises:
            ValueError: if a limit of ``pseudo`` is negative, or "zoom" not below 1.
        """
        if pseudo is not None and (min(pseudo.values()) < 0 or pseudo["zoom"] >= 1):
            raise ValueError(
                "ClipMapper: expected INPUT.AMODAL.PSEUDO limits of at least 0 and ZOOM below 1, "
                f"got {pseudo}"
            )
        self.is_train = is_train
        self.num_frames = clip_len * num_clips
        self.frame_range = frame_range
        self.geometry = geometry
        self.min_visible_px = min_visible_px
        self.color_jitter = color_jitter
        self.pseudo = pseudo
        self.test_size = test_size
        self.detections = detections

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.INPUT.AMODAL
        motion = {key.lower(): node.PSEUDO[key] for key in ("ROTATION", "ZOOM", "SHIFT")}
        return {
            "is_train": is_train,
            "clip_len": node.CLIP_LEN,
            "num_clips": node.NUM_CLIPS,
            "frame_range": node.FRAME_RANGE,
            "geometry": GeometrySampler.from_config(cfg) if is_train else None,
            "min_visible_px": node.MIN_VISIBLE_PX,
            "color_jitter": node.COLOR_JITTER,
            "pseudo": motion if node.PSEUDO.ENABLED else None,
            "test_size": (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
            "detections": open_detections(cfg, is_train=is_train),
        }

    def __call__(self, dataset_dict: dict[str, Any], sample_seed: int = 0) -> dict[str, Any]:
        """Map one video.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.video_amodal`; not changed.
            sample_seed: seed of all random choices; unused in test mode.

        Returns:
            dict: "video_id", "height", "width" (original, pixels), "length" and

            - training: "frames" (uint8 Tensor[T, 3, H, W], RGB), "instances" (list of T
              ``Instances`` with the same N tracks in the same order and the ``gt_*`` fields
              classes, ids, visible and amodal masks and boxes), "frame_indices" (list of T),
              "sample_seed". N may be 0. If a track's annotations have no amodal masks, the sample
              has neither amodal masks nor boxes.
            - test: "frames", a :class:`LazyFrames`.

            With outputs of the fixed detector also "detected": a
            :class:`amodal2.structures.detector_cache.DetectedFrames` in training, a
            :class:`LazyDetections` in tests.
        """
        sample = {key: dataset_dict[key] for key in ("video_id", "height", "width", "length")}
        source = (
            dataset_dict["file_names"]
            if "file_names" in dataset_dict
            else dataset_dict["file_name"]
        )
        if not self.is_train:
            short, longest = self.test_size
            sample["frames"] = LazyFrames(
                source, dataset_dict["length"], short_edge=short, longest_edge=longest
            )
            if self.detections is not None:
                size = shortest_edge_size(sample["height"], sample["width"], short, longest)
                sample["detected"] = LazyDetections(self.detections, video_key(dataset_dict, size))
            return sample
        rng = np.random.default_rng(sample_seed)
        tracks = [track for track in dataset_dict["annotations"] if not track.get("iscrowd", 0)]
        indices = self._draw_frames(rng, dataset_dict["length"], tracks)
        height, width = dataset_dict["height"], dataset_dict["width"]
        if self.geometry is None:
            geometry = ClipGeometry.resize_to(height, width, (height, width))
        else:
            geometry = self.geometry(rng, height, width)
        color = random_color_change(rng, self.color_jitter)
        motion = None
        if self.pseudo is not None and dataset_dict["length"] == 1:
            indices = indices * self.num_frames
            motion = random_camera_motion(rng, self.num_frames, **self.pseudo)
        sample["frames"] = _read_frames(source, indices, geometry, color, motion)
        sample["instances"] = self._annotate(tracks, indices, geometry, motion)
        sample["frame_indices"] = indices
        sample["sample_seed"] = sample_seed
        if self.detections is not None:
            key = video_key(dataset_dict, geometry.size)
            sample["detected"] = self.detections.read(key, indices)
        return sample

    def _draw_frames(
        self, rng: np.random.Generator, length: int, tracks: list[dict[str, Any]]
    ) -> list[int]:
        """Draw frame numbers, again if no track is visible in them."""
        for _ in range(_MAX_DRAWS):
            indices = sample_frame_indices(rng, length, self.num_frames, self.frame_range)
            if any(track["segmentations"][t] is not None for track in tracks for t in indices):
                break
        return indices

    def _annotate(
        self,
        tracks: list[dict[str, Any]],
        indices: list[int],
        geometry: ClipGeometry,
        motion: CameraMotion | None,
    ) -> list[Instances]:
        """Build the ``Instances`` of every sampled frame."""
        tracks = [k for k in tracks if any(k["segmentations"][t] is not None for t in indices)]
        visible = _decode(tracks, "segmentations", indices, geometry, motion)
        first = first_visible_frames(visible, self.min_visible_px)
        seen = first < len(indices)
        if not seen.all():
            tracks = [track for track, kept in zip(tracks, seen, strict=True) if kept]
            visible = np.ascontiguousarray(visible[:, seen])
            first = first[seen]
        masks = {fields.GT_VISIBLE_MASKS: visible}
        if all(track.get("amodal_segmentations") is not None for track in tracks):
            masks[fields.GT_AMODAL_MASKS] = _decode(
                tracks, "amodal_segmentations", indices, geometry, motion, first
            )
        boxes = {name: mask_boxes(value) for name, value in masks.items()}
        classes = torch.tensor([track["category_id"] for track in tracks], dtype=torch.int64)
        ids = torch.tensor([track["id"] for track in tracks], dtype=torch.int64)
        frames = []
        for t in range(len(indices)):
            instances = Instances(geometry.size)
            instances.set(fields.GT_CLASSES, classes)
            instances.set(fields.GT_IDS, ids)
            for name, value in masks.items():
                instances.set(name, torch.from_numpy(value[t]))
                instances.set(_BOXES_OF[name], Boxes(torch.from_numpy(boxes[name][t])))
            frames.append(instances)
        return frames


def _read_frames(
    source: str | list[str],
    indices: list[int],
    geometry: ClipGeometry,
    color: Any,
    motion: CameraMotion | None,
) -> torch.Tensor:
    """Decode and transform the frames ``indices`` of a video, [T, 3, H, W] uint8."""
    with open_frames(source) as opened:
        frames = opened.read(indices if motion is None else indices[:1])
    frames = color.apply_frames(geometry.apply_frames(frames))
    return frames_to_tensor(frames if motion is None else motion.apply_frame(frames[0]))


def _decode(
    tracks: list[dict[str, Any]],
    key: str,
    indices: list[int],
    geometry: ClipGeometry,
    motion: CameraMotion | None,
    first: np.ndarray | None = None,
) -> np.ndarray:
    """Decode all tracks, [T, N, H, W] bool, empty before frame ``first[n]`` of the sample."""
    rles = [
        track[key][index] if first is None or t >= first[n] else None
        for t, index in enumerate(indices)
        for n, track in enumerate(tracks)
    ]
    masks = decode_masks(rles, geometry).reshape(len(indices), len(tracks), *geometry.size)
    return masks if motion is None else motion.apply_masks(masks)
