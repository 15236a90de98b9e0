"""Mapper from one object of a video to a clip of square patches around it.

C2F-Seg's rule for video: the visible box of each frame is enlarged, the largest crop of the clip
sets one scale for all frames, and smaller crops lie top left in their patches. Shapes: T frames of
a clip, S side of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances

from amodal2.data.lazy_frames import frames_to_tensor
from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.mappers.object_patch import OBJECT_KEY, enlarged_crop
from amodal2.data.transforms import ClipGeometry, decode_masks, mask_noise, random_color_change
from amodal2.structures import fields
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.rle import RLE, rle_box
from amodal2.utils.frames import open_frames

Crop = tuple[int, int, int, int]
_SCALES = ("clip", "frame")


def split_tracks(dataset_dicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn video dicts into one dict per object that is visible somewhere and has amodal masks.

    Args:
        dataset_dicts: dicts of :mod:`amodal2.data.datasets.video_amodal`.

    Returns:
        list[dict]: the same dicts with ``object``, the position among the annotations, which are
        shared, not copied.
    """
    return [
        {**item, OBJECT_KEY: number}
        for item in dataset_dicts
        for number, track in enumerate(item.get("annotations", []))
        if not track.get("iscrowd", 0) and any(track[VISIBLE_KEY]) and track.get(AMODAL_KEY)
    ]


def draw_frames(
    rng: np.random.Generator, visible: Sequence[RLE | None], count: int, *, random: bool
) -> list[int]:
    """Choose T successive frames; a shorter video repeats its last one.

    Args:
        rng: source of randomness.
        visible: masks of an object that is visible somewhere.
        count: T.
        random: draw frames of which one shows the object; else take the first ones.

    Returns:
        list[int]: T positions.
    """
    length = len(visible)
    start = 0
    if random:
        latest = max(0, length - count)
        starts = [s for s in range(latest + 1) if any(visible[s : s + count])]
        start = starts[int(rng.integers(len(starts)))]
    return [min(start + t, length - 1) for t in range(count)]


def read_frames(item: dict[str, Any], indices: Sequence[int]) -> np.ndarray:
    """Return frames of a video's dict, uint8 RGB ndarray[T, H, W, 3]."""
    source = item["file_names"] if "file_names" in item else item["file_name"]
    with open_frames(source) as opened:
        return opened.read(indices)


@AMODAL_MAPPER_REGISTRY.register()
class ObjectClipMapper:
    """Cuts one object out of T successive frames; short videos repeat their last frame.

    A frame without a visible pixel takes the box of the nearest frame that has one; the official
    code looks at the true amodal mask there.
    """

    expand_dicts = staticmethod(split_tracks)

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        num_frames: int,
        size: int = 256,
        enlarge: tuple[float, float] = (2.0, 2.0),
        flip: bool = False,
        color_jitter: float = 0.0,
        noise: str = "none",
        scale: str = "clip",
    ) -> None:
        """Store and check the settings.

        Args:
            is_train: draw the start of the clip, flip, colours and noise; otherwise the clip starts
                with the video.
            num_frames: T.
            size: S in pixels.
            enlarge: smallest and largest factor on the sides of the boxes, one per clip.
            flip: mirror half of the training clips.
            color_jitter: strength of the colour change in [0, 1].
            noise: how training changes the given visible masks, see ``mask_noise``.
            scale: "clip" for one scale in all frames, "frame" for crops that fill their patches.

        Raises:
            ValueError: if there is no frame, the factors are not rising from 1, or noise or scale
                are unknown.
        """
        if scale not in _SCALES:
            raise ValueError(f"ObjectClipMapper: expected a scale of {_SCALES}, got {scale!r}")
        if num_frames < 1 or not 1 <= enlarge[0] <= enlarge[1]:
            raise ValueError(
                "ObjectClipMapper: expected at least 1 frame and 1 <= smallest <= largest factor, "
                f"got {num_frames} and {enlarge}"
            )
        self.is_train = is_train
        self.num_frames = num_frames
        self.size = size
        self.enlarge = enlarge
        self.flip = flip
        self.color_jitter = color_jitter
        self.noise = mask_noise(noise)
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.INPUT.AMODAL
        fixed = (node.PATCH_ENLARGE_TEST, node.PATCH_ENLARGE_TEST)
        return {
            "is_train": is_train,
            "num_frames": node.CLIP_LEN * node.NUM_CLIPS,
            "size": node.PATCH_SIZE,
            "enlarge": tuple(node.PATCH_ENLARGE) if is_train else fixed,
            "flip": cfg.INPUT.RANDOM_FLIP == "horizontal",
            "color_jitter": node.COLOR_JITTER,
            "noise": node.PATCH_NOISE,
            "scale": node.PATCH_SCALE,
        }

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one object.

        Args:
            dataset_dict: a dict of ``split_tracks``; not changed.
            sample_seed: seed of all random choices; None draws one, see ``sample_generator``.

        Returns:
            dict: "video_id", "height", "width" (original, pixels), "annotation_id", "image" (uint8
            RGB Tensor[T, 3, S, S]), "input_mask" (bool Tensor[T, S, S], the visible masks, changed
            in training), "instances" (list of T with one object: ``gt_classes``,
            ``gt_visible_masks`` and ``gt_amodal_masks``), "frame_indices" (list of T), "crops" (T
            times top, left, height, width in source pixels) and "paddings" (T times empty rows and
            columns of the patch).
        """
        rng = sample_generator(sample_seed)
        track = dataset_dict["annotations"][dataset_dict[OBJECT_KEY]]
        size = dataset_dict["height"], dataset_dict["width"]
        indices = draw_frames(rng, track[VISIBLE_KEY], self.num_frames, random=self.is_train)
        factor = float(rng.uniform(*self.enlarge))
        boxes = _boxes(track[VISIBLE_KEY])
        crops = [enlarged_crop(boxes[t], factor, size) for t in indices]
        flip = self.is_train and self.flip and bool(rng.random() < 0.5)
        geometries = [ClipGeometry(c, s) for c, s in zip(crops, self._sizes(crops), strict=True)]
        visible, amodal = (
            np.stack(
                [
                    self._fill(decode_masks([track[key][t]], geometry)[0], flip)
                    for t, geometry in zip(indices, geometries, strict=True)
                ]
            )
            for key in (VISIBLE_KEY, AMODAL_KEY)
        )
        images = self._read(dataset_dict, indices, geometries, flip)
        given = visible
        if self.is_train:
            images = random_color_change(rng, self.color_jitter).apply_frames(images)
            if self.noise is not None:
                given = np.stack([self.noise.apply(mask, rng) for mask in visible])
        return {
            **{key: dataset_dict[key] for key in ("video_id", "height", "width")},
            "annotation_id": track["id"],
            "image": frames_to_tensor(np.ascontiguousarray(images)),
            "input_mask": torch.from_numpy(given),
            "instances": [
                self._instance(track, *masks) for masks in zip(visible, amodal, strict=True)
            ],
            "frame_indices": indices,
            "crops": crops,
            "paddings": [(self.size - g.size[0], self.size - g.size[1]) for g in geometries],
        }

    def _sizes(self, crops: Sequence[Crop]) -> list[tuple[int, int]]:
        """Return height and width of each frame's part of its patch."""
        if self.scale == "frame":
            return [(self.size, self.size)] * len(crops)
        height, width = (max(crop[axis] for crop in crops) for axis in (2, 3))
        return [
            (max(1, round(c[2] * self.size / height)), max(1, round(c[3] * self.size / width)))
            for c in crops
        ]

    def _read(
        self,
        item: dict[str, Any],
        indices: list[int],
        geometries: Sequence[ClipGeometry],
        flip: bool,
    ) -> np.ndarray:
        """Return the patches, uint8 RGB ndarray[T, S, S, 3]."""
        frames = read_frames(item, indices)
        return np.stack(
            [
                self._fill(geometry.apply_frames(frame[None])[0], flip)
                for frame, geometry in zip(frames, geometries, strict=True)
            ]
        )

    def _fill(self, part: np.ndarray, flip: bool) -> np.ndarray:
        """Put a part (ndarray[h, w, ...]) top left into a patch of zeros; mirror the patch."""
        patch = np.zeros((self.size, self.size, *part.shape[2:]), part.dtype)
        patch[: part.shape[0], : part.shape[1]] = part
        return patch[:, ::-1] if flip else patch

    def _instance(
        self, track: dict[str, Any], visible: np.ndarray, amodal: np.ndarray
    ) -> Instances:
        instances = Instances((self.size, self.size))
        instances.set(fields.GT_CLASSES, torch.tensor([track["category_id"]]))
        for field, mask in ((fields.GT_VISIBLE_MASKS, visible), (fields.GT_AMODAL_MASKS, amodal)):
            instances.set(field, torch.from_numpy(mask[None]))
        return instances


def _boxes(visible: Sequence[RLE | None]) -> list[Sequence[float]]:
    """Return a box (x, y, w, h) per frame, where nothing is visible that of the nearest frame."""
    found = {t: rle_box(rle) for t, rle in enumerate(visible) if rle}
    return [found[min(found, key=lambda seen: (abs(seen - t), seen))] for t in range(len(visible))]
