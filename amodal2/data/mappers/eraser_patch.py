"""Mapper for PCNet-M: a visible mask, another object's mask laid over it, and what it was.

Shapes: S side of the patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode, configurable

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.structures.crop_window import square_windows, visible_windows
from amodal2.structures.mask_checks import VISIBLE_KEY
from amodal2.structures.rle import decode_rle

ERASERS_KEY = "erasers"
"""Key of a dataset dict: further annotations that erasers may come from."""

_SHIFT, _SCALE, _OVERLAP = (-0.2, 0.2), (0.8, 1.2), (0.4, 1.0)
_ERASED = (0.001, 0.9)
_FRONT = 0.8  # probability that the eraser lies in front (case 1)
_LEAST_SIDE = 5
_MAX_DRAWS = 100

Mask = npt.NDArray[np.bool_]


def add_erasers(dataset_dicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every video the objects of the next one as erasers, too.

    Args:
        dataset_dicts: dicts of :mod:`amodal2.data.datasets.video_amodal`.

    Returns:
        list[dict]: the same with ``erasers``; annotations are shared, not copied.
    """
    following = [*dataset_dicts[1:], *dataset_dicts[:1]]
    return [
        {**item, ERASERS_KEY: other["annotations"]}
        for item, other in zip(dataset_dicts, following, strict=True)
    ]


@AMODAL_MAPPER_REGISTRY.register()
class EraserPatchMapper:
    """Draws an object and an eraser and erases, or leaves the object as it is (deocclusion).

    Case 1 (0.8): the eraser lies in front, and the network is to give back what it erased. Case 2:
    the eraser lies behind, so that its part inside the object is not there, and nothing is missing.
    In test mode a sample is the whole video, as that of ``ObjectTrackMapper`` without flow.
    """

    expand_dicts = staticmethod(add_erasers)

    @configurable
    def __init__(self, *, is_train: bool, size: int = 256) -> None:
        """Store the settings.

        Args:
            is_train: patches, or whole videos.
            size: S in pixels.
        """
        self.is_train = is_train
        self.size = size

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        return {"is_train": is_train, "size": cfg.INPUT.AMODAL.PATCH_SIZE}

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one video.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.video_amodal`, with or without
                ``erasers``; not changed.
            sample_seed: seed of all random choices; None draws one. Unused in test mode.

        Returns:
            dict: "video_id" and, in training, "mask", "eraser" and "target" (bool Tensor[S, S]); in
            tests what ``ObjectTrackMapper`` gives, "flow" being None.

        Raises:
            ValueError: in training, if no draw of object and eraser will do.
        """
        own = [record for record in dataset_dict["annotations"] if not record.get("iscrowd", 0)]
        if not self.is_train:
            sample = {key: dataset_dict[key] for key in ("video_id", "height", "width", "length")}
            source = dataset_dict.get("file_names") or dataset_dict["file_name"]
            return {**sample, "source": source, "annotations": own, "flow": None}
        rng = sample_generator(sample_seed)
        erasers = [*own, *dataset_dict.get(ERASERS_KEY, [])]
        for _ in range(_MAX_DRAWS):
            drawn = self._draw(rng, own, erasers)
            if drawn is not None:
                target, eraser = drawn
                break
        else:
            raise ValueError(
                f"EraserPatchMapper: expected objects that one can erase a part of, got none in "
                f"video {dataset_dict['video_id']}; keep DATALOADER.FILTER_EMPTY_ANNOTATIONS True"
            )
        if rng.random() < _FRONT:
            mask = target & ~eraser
        else:
            mask, eraser = target, eraser & ~target
        patches = {"mask": mask, "eraser": eraser, "target": target}
        return {
            "video_id": dataset_dict["video_id"],
            **{name: torch.from_numpy(patch.copy()) for name, patch in patches.items()},
        }

    def _draw(
        self,
        rng: np.random.Generator,
        objects: list[dict[str, Any]],
        erasers: list[dict[str, Any]],
    ) -> tuple[Mask, Mask] | None:
        """Draw an object's patch and an eraser on it; None if they will not do."""
        mask, cover = _any_mask(rng, objects), _any_mask(rng, erasers)
        if mask is None or cover is None:
            return None
        target = self._cut(mask, rng.uniform(*_SHIFT, 2), 1 / rng.uniform(*_SCALE))
        away = (1 - rng.uniform(*_OVERLAP)) * self.size
        angle = rng.uniform(0, 2 * np.pi)
        move = np.round(away * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        eraser = _shifted(self._cut(cover, np.zeros(2), 1.0), move)
        if rng.random() < 0.5:
            target = target[:, ::-1]
        area = target.sum()
        share = (target & eraser).sum() / max(1, area)
        return (target, eraser) if _ERASED[0] <= share < _ERASED[1] else None

    def _cut(self, mask: Mask, shift: npt.NDArray[np.float64], scale: float) -> Mask:
        """Cut a square around a mask, displaced and scaled, and bring it to S x S."""
        top, left, bottom, _ = square_windows(visible_windows(mask[None]))[0]
        side = (bottom - top) * scale
        middle = np.array([top, left]) + (bottom - top) * (0.5 + shift)
        step = side / self.size
        start = middle - side / 2 + step / 2 - 0.5
        matrix = np.array([[step, 0, start[1]], [0, step, start[0]]])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(mask.astype(np.uint8), matrix, (self.size, self.size), flags=flags)
        return np.asarray(warped, np.uint8).astype(bool)


def _any_mask(rng: np.random.Generator, records: list[dict[str, Any]]) -> Mask | None:
    """Draw an object and a frame; None if nothing, or too little, is seen of it there."""
    if not records:
        return None
    tube = records[int(rng.integers(len(records)))][VISIBLE_KEY]
    seen = [rle for rle in tube if rle is not None]
    if not seen:
        return None
    mask = decode_rle(seen[int(rng.integers(len(seen)))])
    top, _, bottom, _ = square_windows(visible_windows(mask[None]))[0]
    return mask if bottom - top >= _LEAST_SIDE else None


def _shifted(mask: Mask, move: npt.NDArray[np.int64]) -> Mask:
    """Move a mask by (rows, columns); what leaves the patch is lost."""
    matrix = np.array([[1.0, 0, move[1]], [0, 1.0, move[0]]])
    size = (mask.shape[1], mask.shape[0])
    moved = cv2.warpAffine(mask.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8).astype(bool)
