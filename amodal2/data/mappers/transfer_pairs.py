"""Mapper for mask transfer: an object of an image and references that do or do not look like it.

Shapes: h w crop, H W image, N objects.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.mappers.image import to_model_image
from amodal2.data.reference_sets import (
    Reference,
    ReferenceShapes,
    crop_reference,
    find_references,
    tight_box,
)
from amodal2.data.sized_image import read_sized_image
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import decode_rle

_LEAST_SIDE = 4
_JITTER = 0.05
_AROUND = 2.0


@AMODAL_MAPPER_REGISTRY.register()
class TransferPairMapper:
    """Draws an object as query, one positive and one negative reference of its class.

    In training the proposal is the visible box, each side moved by up to 5 % of its length, and
    half of the samples are mirrored. In tests the proposals of an image are the true visible masks
    and their boxes, so that transfer is measured apart from detection.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        references: list[Reference],
        tau_pos: float = 0.75,
        tau_neg: float = 0.55,
        context: float = 1.0,
        flip: bool = False,
        image_format: str = "BGR",
        around: float = 0.0,
    ) -> None:
        """Store the settings and draw the references' shapes.

        Args:
            is_train: pairs, or test images with proposals.
            references: complete objects; unused in tests.
            tau_pos: overlap from which a reference is positive.
            tau_neg: overlap up to which it is negative.
            context: factor on the sides of a proposal's box in training; in tests the model crops.
            flip: mirror half of the training samples.
            image_format: "BGR" or "RGB".
            around: sides of the region about a training crop that is given as well, in sides of the
                crop; 0 gives none.

        Raises:
            ValueError: if there are no references to train with.
        """
        if is_train and not references:
            raise ValueError(
                "TransferPairMapper: expected references, got none; MODEL.MASK_TRANSFER.REFERENCES "
                "or DATASETS.TRAIN need complete objects whose boxes have a short side of at least "
                "MODEL.MASK_TRANSFER.MIN_SIDE pixels"
            )
        self.is_train = is_train
        self.shapes = ReferenceShapes(references)
        self.tau_pos, self.tau_neg = tau_pos, tau_neg
        self.context = context
        self.flip = flip
        self.image_format = image_format
        self.around = around

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.MODEL.MASK_TRANSFER
        names = (node.REFERENCES or cfg.DATASETS.TRAIN) if is_train else ()
        dicts = [item for name in names for item in DatasetCatalog.get(name)]
        return {
            "is_train": is_train,
            "references": find_references(dicts, node.MIN_SIDE),
            "tau_pos": node.TAU_POS,
            "tau_neg": node.TAU_NEG,
            "context": node.CONTEXT,
            "flip": cfg.INPUT.RANDOM_FLIP == "horizontal",
            "image_format": cfg.INPUT.FORMAT,
            "around": _AROUND if "refine" in node.TRAIN else 0.0,
        }

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one image.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.coco_amodal` whose annotations have
                both kinds of masks; not changed.
            sample_seed: seed of all random choices; None draws one, see ``sample_generator``.

        Returns:
            dict: in training "image" (uint8 Tensor[3, h, w], the proposal's crop), "mask" (bool
            Tensor[h, w]), "amodal_box" (x0, y0, x1, y1 in the crop's pixels, may reach beyond it)
            and "references": at most one positive and one negative, each with "image" (uint8
            Tensor[3, h, w]), "mask" (bool Tensor[h, w]) and "overlap"; with ``around`` also
            "around", a dict with "image" (uint8 Tensor[3, H, W]), "visible", "others" (of all other
            objects) and "amodal" (bool Tensor[H, W]) and "origin", the x and y of its corner in the
            crop's pixels. In tests the keys of the dict without its annotations,
            "image" (uint8 Tensor[3, H, W]) and "proposals": N objects with ``pred_boxes``,
            ``pred_classes``, ``scores`` (1) and ``pred_visible_masks``.

        Raises:
            ValueError: in training, if the image has no object to be a query.
        """
        image = read_sized_image(dataset_dict)
        objects = _usable(dataset_dict)
        if not self.is_train:
            return self._test_sample(dataset_dict, image, objects)
        rng = sample_generator(sample_seed)
        if not objects:
            raise ValueError(
                "TransferPairMapper: expected an object with visible pixels and both kinds of "
                f"masks, got none in image {dataset_dict.get('image_id')}"
            )
        record = objects[int(rng.integers(len(objects)))]
        visible, amodal = decode_rle(record[VISIBLE_SEGM]), decode_rle(record[AMODAL_SEGM])
        size = (image.shape[0], image.shape[1])
        x0, y0, x1, y1 = _grown(_jittered(rng, tight_box(visible), size), self.context, size)
        box = np.array(tight_box(amodal), np.float32) - np.array([x0, y0, x0, y0], np.float32)
        mirrored = self.flip and bool(rng.random() < 0.5)
        if mirrored:
            box[[0, 2]] = (x1 - x0) - box[[2, 0]]
        sample = {
            "image": self._picture(image[y0:y1, x0:x1], mirrored),
            "mask": _plane(visible[y0:y1, x0:x1], mirrored),
            "amodal_box": tuple(box.tolist()),
            "references": self._choose(rng, record["category_id"], amodal, mirrored),
        }
        if self.around:
            others = [decode_rle(o[VISIBLE_SEGM]) for o in objects if o is not record]
            masks = {
                "visible": visible,
                "others": np.logical_or.reduce([np.zeros_like(visible), *others]),
                "amodal": amodal,
            }
            sample["around"] = self._surroundings(image, masks, (x0, y0, x1, y1), mirrored)
        return sample

    def _surroundings(
        self,
        image: np.ndarray,
        masks: dict[str, np.ndarray],
        crop: tuple[int, int, int, int],
        mirrored: bool,
    ) -> dict[str, Any]:
        """Cut out what lies about a crop (x0, y0, x1, y1), as far as the image reaches."""
        x0, y0, x1, y1 = _grown(crop, self.around, (image.shape[0], image.shape[1]))
        left = crop[2] - x1 if mirrored else x0 - crop[0]
        planes = {name: _plane(mask[y0:y1, x0:x1], mirrored) for name, mask in masks.items()}
        picture = self._picture(image[y0:y1, x0:x1], mirrored)
        return planes | {"image": picture, "origin": (left, y0 - crop[1])}

    def _choose(
        self, rng: np.random.Generator, class_id: int, amodal: np.ndarray, mirrored: bool
    ) -> list[dict[str, Any]]:
        """Draw a positive and a negative reference, where there are some."""
        numbers = self.shapes.of_class(class_id)
        overlaps = self.shapes.overlaps(amodal, numbers)
        chosen = []
        for fits in (overlaps >= self.tau_pos, overlaps <= self.tau_neg):
            candidates = np.flatnonzero(fits)
            if len(candidates) == 0:
                continue
            index = int(candidates[rng.integers(len(candidates))])
            crop, mask = crop_reference(self.shapes.references[int(numbers[index])])
            chosen.append(
                {
                    "image": self._picture(crop, mirrored),
                    "mask": _plane(mask, mirrored),
                    "overlap": float(overlaps[index]),
                }
            )
        return chosen

    def _picture(self, crop: np.ndarray, mirrored: bool) -> torch.Tensor:
        """Return a crop (uint8 [h, w, 3], RGB) as the model takes it."""
        return to_model_image((crop[:, ::-1] if mirrored else crop)[None], self.image_format)

    def _test_sample(
        self, dataset_dict: dict[str, Any], image: np.ndarray, objects: list[dict[str, Any]]
    ) -> dict[str, Any]:
        masks = [decode_rle(record[VISIBLE_SEGM]) for record in objects]
        size = (image.shape[0], image.shape[1])
        proposals = Instances(size)
        boxes = [tight_box(mask) for mask in masks]
        proposals.set(
            fields.PRED_BOXES, Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        )
        classes = [record["category_id"] for record in objects]
        proposals.set(fields.PRED_CLASSES, torch.tensor(classes, dtype=torch.int64))
        proposals.set(fields.SCORES, torch.ones(len(objects)))
        stacked = np.stack(masks) if masks else np.zeros((0, *size), bool)
        proposals.set(fields.PRED_VISIBLE_MASKS, torch.from_numpy(stacked))
        sample = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        return sample | {
            "image": to_model_image(image[None], self.image_format),
            "proposals": proposals,
        }


def _plane(mask: np.ndarray, mirrored: bool) -> torch.Tensor:
    """Return a mask as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(mask[:, ::-1] if mirrored else mask))


def _usable(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects with both masks of which something can be seen and compared."""
    return [
        record
        for record in item.get("annotations", [])
        if not record.get("iscrowd", 0)
        and record.get(VISIBLE_SEGM)
        and record.get(AMODAL_SEGM)
        and min(record["visible_bbox"][2:]) >= _LEAST_SIDE
    ]


def _jittered(
    rng: np.random.Generator, box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Move every side of a box by up to 5 % of its length; it keeps at least four pixels."""
    shifts = rng.uniform(-_JITTER, _JITTER, 4)
    width, height = box[2] - box[0], box[3] - box[1]
    x0 = int(np.clip(round(box[0] + shifts[0] * width), 0, size[1] - _LEAST_SIDE))
    y0 = int(np.clip(round(box[1] + shifts[1] * height), 0, size[0] - _LEAST_SIDE))
    x1 = int(np.clip(round(box[2] + shifts[2] * width), x0 + _LEAST_SIDE, size[1]))
    y1 = int(np.clip(round(box[3] + shifts[3] * height), y0 + _LEAST_SIDE, size[0]))
    return x0, y0, x1, y1


def _grown(
    box: tuple[int, int, int, int], factor: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Enlarge a box about its centre, outwards to whole pixels, and cut it at the border."""
    grow_x = (factor - 1) * (box[2] - box[0]) / 2
    grow_y = (factor - 1) * (box[3] - box[1]) / 2
    return (
        max(0, math.floor(box[0] - grow_x)),
        max(0, math.floor(box[1] - grow_y)),
        min(size[1], math.ceil(box[2] + grow_x)),
        min(size[0], math.ceil(box[3] + grow_y)),
    )
