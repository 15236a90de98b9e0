"""Mapper from a video to one object's track, for systems that complete masks over time.

Shapes: T frames of the sample, (h, w) region around the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.transforms import ClipGeometry, decode_masks
from amodal2.structures.crop_window import clip_window, visible_windows
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.utils.frame_source import FrameSource
from amodal2.utils.frames import open_frames
from amodal2.utils.optical_flow import OpticalFlow, video_flow


@AMODAL_MAPPER_REGISTRY.register()
class ObjectTrackMapper:
    """Cuts one object out of T neighbouring frames, with flow and the masks of all others.

    1. Draws an object and T frames between its first and last visible one; a shorter life gives all
    its frames. What is marked as a crowd is never drawn, but counts among the others.
    2. Cuts one region around its visible boxes out of all of them.

    In test mode a sample is the whole video with the visible masks of its objects, and the frames
    stay on disk.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        num_frames: int = 16,
        enlarge: float = 2.0,
        margin: int = 8,
        flow: str = "auto",
    ) -> None:
        """Store the settings.

        Args:
            is_train: one object's frames, or whole videos.
            num_frames: T.
            enlarge: factor on the visible boxes.
            margin: further pixels on each side of the region.
            flow: source of the flow where the data have none, see ``open_flow``.
        """
        self.is_train = is_train
        self.num_frames = num_frames
        self.enlarge = enlarge
        self.margin = margin
        self.flow = flow

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.INPUT.AMODAL
        return {
            "is_train": is_train,
            "num_frames": node.CLIP_LEN,
            "enlarge": node.TRACK_ENLARGE,
            "margin": node.TRACK_MARGIN,
            "flow": node.FLOW,
        }

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one video.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.video_amodal`; not changed.
            sample_seed: seed of all random choices; None draws one. Unused in test mode.

        Returns:
            dict: "video_id", "height", "width", "length" and

            - training: "annotation_id", "frame_indices" (list of T), "region" (top, left, bottom,
              right in pixels of the video), "frames" (uint8 Tensor[T, 3, h, w]), "visible",
              "others" and, where the data have them, "amodal" (bool Tensor[T, h, w]),
              "forward_flow", "backward_flow" (float32 Tensor[T, 2, h, w], pixels).
            - test: "source" (what ``open_frames`` takes), "annotations", "flow" (an
              ``OpticalFlow``).

        Raises:
            ValueError: in training, if the video has no object with visible pixels.
        """
        sample = {key: dataset_dict[key] for key in ("video_id", "height", "width", "length")}
        files = dataset_dict.get("file_names")
        source = dataset_dict["file_name"] if files is None else files
        everything = dataset_dict["annotations"]
        tracks = [track for track in everything if not track.get("iscrowd", 0)]
        flow = video_flow(dataset_dict, self.flow)
        if not self.is_train:
            return {**sample, "source": source, "annotations": tracks, "flow": flow}
        rng = sample_generator(sample_seed)
        choices = [track for track in tracks if any(track[VISIBLE_KEY])]
        if not choices:
            raise ValueError(
                "ObjectTrackMapper: expected an object with visible pixels, got none in video "
                f"{dataset_dict['video_id']}; keep DATALOADER.FILTER_EMPTY_ANNOTATIONS True"
            )
        track = choices[int(rng.integers(len(choices)))]
        indices = self._draw_frames(rng, track)
        with open_frames(source) as opened:
            cut = self.cut(opened, everything, track, indices, flow, sample["length"])
        return {**sample, **cut}

    def cut(
        self,
        source: FrameSource,
        tracks: Sequence[dict[str, Any]],
        track: dict[str, Any],
        indices: list[int],
        flow: OpticalFlow,
        length: int,
    ) -> dict[str, Any]:
        """Cut one object out of neighbouring frames.

        Args:
            source: the video.
            tracks: annotations of all objects.
            track: the one that is wanted, visible in some of the frames.
            indices: T frame numbers, each the next one's predecessor.
            flow: gives the flow.
            length: frames of the video.

        Returns:
            dict: of a training sample what the object has, see :meth:`__call__`.
        """
        size = (source.height, source.width)
        masks = self._masks(track, tracks, indices, size)
        region = clip_window(visible_windows(masks["visible"]), self.enlarge, self.margin, size)
        top, left, bottom, right = region
        cut = {
            name: torch.from_numpy(mask[:, top:bottom, left:right].copy())
            for name, mask in masks.items()
        }
        images = _read_images(source, indices, region, flow, length)
        place = {"annotation_id": track["id"], "frame_indices": indices, "region": region}
        return {**cut, **images, **place}

    def _draw_frames(self, rng: np.random.Generator, track: dict[str, Any]) -> list[int]:
        """Draw neighbouring frames of an object's visible life."""
        seen = [t for t, rle in enumerate(track[VISIBLE_KEY]) if rle is not None]
        first, stop = seen[0], seen[-1] + 1
        length = min(self.num_frames, stop - first)
        start = first + int(rng.integers(stop - first - length + 1))
        if not any(start <= t < start + length for t in seen):  # hidden for longer than the sample
            start = min(seen[int(rng.integers(len(seen)))], stop - length)
        return list(range(start, start + length))

    def _masks(
        self,
        track: dict[str, Any],
        tracks: Sequence[dict[str, Any]],
        indices: list[int],
        size: tuple[int, int],
    ) -> dict[str, np.ndarray]:
        """Decode the object's masks and the union of all others' (bool [T, H, W])."""
        geometry = ClipGeometry.resize_to(*size, size)
        visible = decode_masks([track[VISIBLE_KEY][t] for t in indices], geometry)
        others = np.zeros_like(visible)
        for other in tracks:
            if other is not track:
                others |= decode_masks([other[VISIBLE_KEY][t] for t in indices], geometry)
        masks = {"visible": visible, "others": others}
        if track.get(AMODAL_KEY) is not None:
            masks["amodal"] = decode_masks([track[AMODAL_KEY][t] for t in indices], geometry)
        return masks


def _read_images(
    source: FrameSource,
    indices: list[int],
    region: tuple[int, int, int, int],
    flow: OpticalFlow,
    length: int,
) -> dict[str, torch.Tensor]:
    """Read frames and flow of a region; flow needs one more frame on each side."""
    top, left, bottom, right = region
    first = max(0, indices[0] - 1)
    frames = source.read(range(first, min(length, indices[-1] + 2)))
    fields: dict[int, list[np.ndarray]] = {1: [], -1: []}
    for t in indices:
        for step, found in fields.items():
            if 0 <= t + step < length:
                field = flow(frames[t - first], frames[t + step - first], t, step)
                found.append(field[top:bottom, left:right])
            else:
                found.append(np.zeros((bottom - top, right - left, 2), np.float32))
    own = frames[indices[0] - first :][: len(indices), top:bottom, left:right]
    images = {
        "frames": own,
        "forward_flow": np.stack(fields[1]),
        "backward_flow": np.stack(fields[-1]),
    }
    return {
        name: torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
        for name, array in images.items()
    }
