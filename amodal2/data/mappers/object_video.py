"""Mapper from one object of a video to a clip of whole frames, for Diffusion-VAS.

Shapes: T frames of a clip, H W size of the model's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from amodal2.data.lazy_frames import frames_to_tensor
from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.mappers.object_clip import draw_frames, read_frames, split_tracks
from amodal2.data.mappers.object_patch import OBJECT_KEY
from amodal2.data.transforms import ClipGeometry, decode_masks, random_color_change
from amodal2.structures.crop_window import enlarged_windows, filled_windows
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.rle import RLE, rle_box
from amodal2.utils.depth import layered_depth

OCCLUDERS_KEY = "occluders"
"""Key of a dataset dict: amodal masks of objects of other videos, to be pasted as occluders."""

_CROP_FACTOR = 2.0  # of the MOVi protocol
_CANDIDATES = 8  # occluders that each sample chooses from
_DEPTHS = ("order", "none")
_CROPS = ("none", "amodal", "visible")


def split_video_objects(dataset_dicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn video dicts into one dict per object that is visible somewhere and has amodal masks.

    Args:
        dataset_dicts: dicts of :mod:`amodal2.data.datasets.video_amodal`.

    Returns:
        list[dict]: the same dicts with ``object``, the position among the annotations, and
        ``occluders``, the amodal masks of a few other objects; masks are shared, not copied.
    """
    found = split_tracks(dataset_dicts)
    tubes = [item["annotations"][item[OBJECT_KEY]][AMODAL_KEY] for item in found]
    for place, item in enumerate(found):
        rng = np.random.default_rng(place)
        chosen = rng.choice(len(tubes), min(_CANDIDATES, len(tubes)), replace=False)
        item[OCCLUDERS_KEY] = [tubes[i] for i in chosen if i != place]
    return found


@AMODAL_MAPPER_REGISTRY.register()
class ObjectVideoMapper:
    """Shows one object through T successive frames; short videos repeat their last frame.

    Masks and frames are resized to the model's input whatever their aspect ratio, from the whole
    frame or, with ``crop``, from twice the box of the object in each frame. Official training has
    no augmentation.
    """

    expand_dicts = staticmethod(split_video_objects)

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        num_frames: int,
        size: tuple[int, int],
        crop: str = "none",
        depth: str = "order",
        paste: int = 0,
        visibility: float = 0.7,
        flip: bool = False,
        color_jitter: float = 0.0,
        frames: bool = True,
    ) -> None:
        """Store and check the settings.

        Args:
            is_train: draw the start of the clip and everything else that is random.
            num_frames: T.
            size: H and W in pixels.
            crop: "none", or the kind of box, "amodal" or "visible", that each frame is cut out by;
                boxes are interpolated where there is none.
            depth: "order" makes layers of the dataset's ``depth_order``, "none" nothing.
            paste: occluders that are pasted at most, for the pairs of stage 2; 0 for stage 1.
            visibility: mean visible share below which no more are pasted.
            flip: mirror half of the training clips.
            color_jitter: strength of the colour change in [0, 1].
            frames: read the frames, for models that are shown them.

        Raises:
            ValueError: if there is no frame, or depth or crop is none of the known ones.
        """
        if num_frames < 1 or depth not in _DEPTHS or crop not in _CROPS:
            raise ValueError(
                f"ObjectVideoMapper: expected at least 1 frame, depth of {_DEPTHS} and crop of "
                f"{_CROPS}, got {num_frames}, {depth!r} and {crop!r}"
            )
        self.is_train = is_train
        self.num_frames = num_frames
        self.size = size
        self.crop = crop
        self.depth = depth
        self.paste = paste
        self.visibility = visibility
        self.flip = flip
        self.color_jitter = color_jitter
        self.frames = frames

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node, data = cfg.MODEL.DIFFUSION_VAS, cfg.INPUT.AMODAL
        return {
            "is_train": is_train,
            "num_frames": data.CLIP_LEN * data.NUM_CLIPS,
            "size": tuple(node.IMAGE_SIZE),
            "crop": node.CROP,
            "depth": node.DEPTH if "depth" in node.CONDITIONS else "none",
            "paste": node.OCCLUDERS if is_train and node.CONDITIONS[0] == "content" else 0,
            "visibility": node.VISIBILITY,
            "flip": cfg.INPUT.RANDOM_FLIP == "horizontal",
            "color_jitter": data.COLOR_JITTER,
            "frames": bool({"rgb", "content"} & set(node.CONDITIONS)),
        }

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one object.

        Args:
            dataset_dict: a dict of ``split_video_objects``; not changed.
            sample_seed: seed of all random choices; None draws one, see ``sample_generator``.

        Returns:
            dict: "video_id", "height", "width" (original, pixels), "annotation_id", "frames" (uint8
            RGB Tensor[T, 3, H, W]; absent if they are not read), "visible" and "amodal" (bool
            Tensor[T, H, W]), "depth" (float Tensor[T, H, W] in [0, 1], larger is nearer; absent
            without ``depth_order``), and "frame_indices" (list of T).
        """
        rng = sample_generator(sample_seed)
        track = dataset_dict["annotations"][dataset_dict[OBJECT_KEY]]
        indices = draw_frames(rng, track[VISIBLE_KEY], self.num_frames, random=self.is_train)
        flip = self.is_train and self.flip and bool(rng.random() < 0.5)
        geometries = self._geometries(dataset_dict, track, indices, flip)
        visible = _decode(track[VISIBLE_KEY], indices, geometries)
        amodal = _decode(track[AMODAL_KEY], indices, geometries)
        if self.paste:
            visible = self._occlude(rng, dataset_dict[OCCLUDERS_KEY], visible, amodal)
        sample = {
            **{key: dataset_dict[key] for key in ("video_id", "height", "width")},
            "annotation_id": track["id"],
            "visible": torch.from_numpy(visible),
            "amodal": torch.from_numpy(amodal),
            "frame_indices": indices,
        }
        if self.frames:
            sample["frames"] = self._read(rng, dataset_dict, indices, geometries)
        if self.depth == "order" and dataset_dict.get("depth_order") is not None:
            sample["depth"] = torch.from_numpy(_layers(dataset_dict, indices, geometries))
        return sample

    def _read(
        self,
        rng: np.random.Generator,
        item: dict[str, Any],
        indices: list[int],
        geometries: Sequence[ClipGeometry],
    ) -> torch.Tensor:
        """Read the chosen frames, uint8 [T, 3, H, W]."""
        raw = read_frames(item, indices)
        frames = np.concatenate(
            [g.apply_frames(frame[None]) for g, frame in zip(geometries, raw, strict=True)]
        )
        if self.is_train:
            frames = random_color_change(rng, self.color_jitter).apply_frames(frames)
        return frames_to_tensor(frames)

    def _geometries(
        self, item: dict[str, Any], track: dict[str, Any], indices: list[int], flip: bool
    ) -> list[ClipGeometry]:
        """Return what is done to each frame."""
        source = item["height"], item["width"]
        if self.crop == "none":
            return [ClipGeometry((0, 0, *source), self.size, flip)] * len(indices)
        tube = track[AMODAL_KEY if self.crop == "amodal" else VISIBLE_KEY]
        boxes = np.full((len(tube), 4), np.nan)
        for t, rle in enumerate(tube):
            left, top, width, height = rle_box(rle) if rle else (0, 0, 0, 0)
            if width:
                boxes[t] = top, left, top + height, left + width
        windows = enlarged_windows(filled_windows(boxes)[indices], _CROP_FACTOR, source)
        return [ClipGeometry(whole_pixels(window, source), self.size, flip) for window in windows]

    def _occlude(
        self,
        rng: np.random.Generator,
        tubes: Sequence[Sequence[RLE | None]],
        visible: np.ndarray,
        amodal: np.ndarray,
    ) -> np.ndarray:
        """Paste other objects over this one until it is occluded enough (official rule)."""
        visible = visible.copy()
        for tube in rng.permutation(np.arange(len(tubes)))[: self.paste]:
            if visible_share(visible, amodal) < self.visibility:
                break
            masks = tubes[tube]
            size = next(tuple(rle["size"]) for rle in masks if rle)
            geometry = ClipGeometry((0, 0, *size), self.size)
            start = int(rng.integers(max(1, len(masks) - len(visible) + 1)))
            chosen = [masks[min(start + t, len(masks) - 1)] for t in range(len(visible))]
            visible &= ~decode_masks(chosen, geometry)
        return visible


def whole_pixels(window: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bring a window to whole pixels inside the frame.

    Args:
        window: top, left, bottom, right in pixels.
        size: height and width of the frame.

    Returns:
        tuple: top, left, height, width; at least one pixel.
    """
    low = [min(max(0, round(float(window[i]))), size[i] - 1) for i in (0, 1)]
    high = [min(max(low[i] + 1, round(float(window[i + 2]))), size[i]) for i in (0, 1)]
    return low[0], low[1], high[0] - low[0], high[1] - low[1]


def visible_share(visible: np.ndarray, amodal: np.ndarray) -> float:
    """Return the mean IoU of visible and amodal masks over the frames with either.

    Args:
        visible (ndarray[T, H, W]): bool.
        amodal (ndarray[T, H, W]): bool.

    Returns:
        float: in [0, 1]; 0 if all frames are empty.
    """
    union = (visible | amodal).sum((1, 2))
    common = (visible & amodal).sum((1, 2))
    seen = union > 0
    return float((common[seen] / union[seen]).mean()) if seen.any() else 0.0


def _decode(
    tube: Sequence[RLE | None], indices: list[int], geometries: Sequence[ClipGeometry]
) -> np.ndarray:
    """Decode an object's masks, bool [T, H, W]."""
    return np.concatenate(
        [decode_masks([tube[t]], g) for t, g in zip(indices, geometries, strict=True)]
    )


def _layers(
    item: dict[str, Any], indices: list[int], geometries: Sequence[ClipGeometry]
) -> np.ndarray:
    """Return the layered depth of the chosen frames, float32 [T, H, W]."""
    tracks = {track["id"]: track for track in item["annotations"]}
    frames = []
    for t, geometry in zip(indices, geometries, strict=True):
        order = [i for i in item["depth_order"][t] if i in tracks]
        masks = decode_masks([tracks[i][VISIBLE_KEY][t] for i in order], geometry)
        frames.append(layered_depth(masks, len(tracks)))
    return np.stack(frames)
