"""Mapper from an image's dataset dict to Detectron2's model input, with every kind of mask.

Shapes: N objects, H W transformed image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import BitMasks, Boxes, Instances

from amodal2.data.lazy_frames import frames_to_tensor
from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.mappers.occluders import build_occluders
from amodal2.data.sized_image import read_sized_image
from amodal2.data.transforms import (
    ClipGeometry,
    GeometrySampler,
    decode_masks,
    mask_boxes,
    random_color_change,
    shortest_edge_size,
)
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import RLE

_FORMATS = ("BGR", "RGB")
_BOXES = {"amodal": fields.GT_AMODAL_BOXES, "visible": fields.GT_VISIBLE_BOXES}


@AMODAL_MAPPER_REGISTRY.register()
class ImageMapper:
    """Reads an image with the visible, amodal and occluder masks and both boxes of its objects.

    1. Applies one crop, resize, flip and colour change to the image and to all kinds of masks.
    2. Drops objects of which nothing is left; a fully hidden object stays.
    3. Takes both boxes from the transformed masks.

    Works in the data loaders of this project and, as ``mapper=``, in Detectron2's own
    (``build_detection_train_loader``), with or without the keys of ``INPUT.AMODAL``.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        geometry: GeometrySampler | None,
        image_format: str = "BGR",
        occluder: str = "all_neighbours",
        min_visible_area: int = 0,
        color_jitter: float = 0.0,
        test_size: tuple[int, int] = (0, 0),
        test_objects: bool = False,
        box: str = "amodal",
    ) -> None:
        """Store and check the settings.

        Args:
            is_train: training samples with instances, or test images without.
            geometry: draws crop, size and flip; None keeps the image as it is.
            image_format: "BGR" (Detectron2's default) or "RGB".
            occluder: how occluder masks are found, see ``build_occluders``.
            min_visible_area: objects with fewer visible pixels after the transforms are dropped; 0
                keeps fully hidden objects.
            color_jitter: strength of the colour change in [0, 1].
            test_size: shorter edge and limit of the longer edge of test images in pixels, 0 for the
                original.
            test_objects: give test images their annotated objects, too.
            box: what ``gt_boxes`` are, "amodal" or "visible"; objects without a pixel in it are
                dropped.

        Raises:
            ValueError: if format or box is none of the two.
        """
        if box not in _BOXES:
            raise ValueError(f"ImageMapper: expected a box of {sorted(_BOXES)}, got {box!r}")
        if image_format not in _FORMATS:
            raise ValueError(f"ImageMapper: expected a format of {_FORMATS}, got {image_format!r}")
        self.is_train = is_train
        self.geometry = geometry
        self.image_format = image_format
        self.occluder = occluder
        self.min_visible_area = min_visible_area
        self.color_jitter = color_jitter
        self.test_size = test_size
        self.test_objects = test_objects
        self.box = box

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        settings: dict[str, Any] = {
            "is_train": is_train,
            "geometry": GeometrySampler.from_config(cfg) if is_train else None,
            "image_format": cfg.INPUT.FORMAT,
            "test_size": (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        }
        node = cfg.INPUT.get("AMODAL")
        if node is not None:
            settings["occluder"] = node.OCCLUDER
            settings["min_visible_area"] = node.MIN_VISIBLE_AREA
            settings["color_jitter"] = node.COLOR_JITTER
            settings["box"] = node.BOX
        detector = cfg.MODEL.get("AMODAL_RCNN")
        if detector is not None:
            settings["test_objects"] = detector.INFERENCE_WITH_GT_BOXES
        return settings

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one image.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.coco_amodal`; not changed.
            sample_seed: seed of all random choices; None draws one from NumPy's global generator,
                which Detectron2's loaders seed in every worker. Unused in test mode.

        Returns:
            dict: the keys of ``dataset_dict`` without its annotations, "image" (uint8 Tensor[3, H,
            W]) and, in training or with ``test_objects``, "instances" with ``gt_classes`` and, for
            every kind of mask that all objects have, ``gt_visible_masks``, ``gt_amodal_masks``,
            ``gt_occluder_masks`` (bool Tensor[N, H, W]), ``gt_visible_boxes`` and
            ``gt_amodal_boxes``. For Detectron2's own heads ``gt_boxes`` are the amodal boxes
            (or those that ``box`` names; without amodal masks the visible ones) and ``gt_masks``
            (BitMasks) the amodal masks.

        Raises:
            AnnotationError: if the image has another size than the dataset dict says.
            VideoError: if the image cannot be read.
        """
        sample = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        if not self.is_train:
            image = read_sized_image(dataset_dict)
            height, width = image.shape[:2]
            size = shortest_edge_size(height, width, *self.test_size)
            geometry = ClipGeometry.resize_to(height, width, size)
            sample["image"] = to_model_image(geometry.apply_frames(image[None]), self.image_format)
            if self.test_objects:
                sample["instances"] = self._annotate(
                    dataset_dict.get("annotations", []), (height, width), geometry
                )
            return sample
        rng = sample_generator(sample_seed)
        image, annotations = self.load(dataset_dict, rng)
        height, width = image.shape[:2]
        if self.geometry is None:
            geometry = ClipGeometry.resize_to(height, width, (height, width))
        else:
            geometry = self.geometry(rng, height, width)
        color = random_color_change(rng, self.color_jitter)
        sample["image"] = to_model_image(
            color.apply_frames(geometry.apply_frames(image[None])), self.image_format
        )
        sample["instances"] = self._annotate(annotations, (height, width), geometry)
        return sample

    def load(
        self, dataset_dict: dict[str, Any], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Read a training image; subclasses may change it.

        Args:
            dataset_dict: not changed.
            rng: source of random choices.

        Returns:
            tuple: uint8 [H, W, 3] in RGB, and the records of its objects.
        """
        return read_sized_image(dataset_dict), dataset_dict.get("annotations", [])

    def _annotate(
        self, annotations: list[dict[str, Any]], size: tuple[int, int], geometry: ClipGeometry
    ) -> Instances:
        """Build the ``Instances`` of the objects that are left after the transforms."""
        objects = [record for record in annotations if not record.get("iscrowd", 0)]
        instances = build_instances(objects, self._find_occluders(objects, size), geometry)
        kept = torch.ones(len(objects), dtype=torch.bool)
        hidden_stay = self.box == "amodal" and instances.has(fields.GT_AMODAL_MASKS)
        for field, least in (
            (fields.GT_AMODAL_MASKS, 1),
            (fields.GT_VISIBLE_MASKS, max(self.min_visible_area, 0 if hidden_stay else 1)),
        ):
            if instances.has(field):
                kept &= instances.get(field).sum(dim=(1, 2)) >= least
        if instances.has(_BOXES[self.box]):
            instances.set(fields.GT_BOXES, instances.get(_BOXES[self.box]).clone())
        return instances[kept]

    def _find_occluders(
        self, objects: list[dict[str, Any]], size: tuple[int, int]
    ) -> list[RLE | None] | None:
        """Return the occluder masks, or None where they cannot be known."""
        if not all(key in record for record in objects for key in (AMODAL_SEGM, VISIBLE_SEGM)):
            return None
        return build_occluders(objects, size, self.occluder)


def to_model_image(frames: np.ndarray, image_format: str) -> torch.Tensor:
    """Turn one frame into a tensor.

    Args:
        frames (ndarray[1, H, W, 3]): uint8 RGB.
        image_format: "BGR" or "RGB", the order of the channels wanted.

    Returns:
        Tensor[3, H, W]: uint8.
    """
    ordered = frames if image_format == "RGB" else frames[..., ::-1]
    return frames_to_tensor(np.ascontiguousarray(ordered))[0]


def build_instances(
    objects: list[dict[str, Any]], occluders: list[RLE | None] | None, geometry: ClipGeometry
) -> Instances:
    """Decode and transform every kind of mask that all objects have, and take the boxes from them.

    Args:
        objects: N records of ``image_json`` with contiguous classes.
        occluders: N occluder masks at the size of the image; None leaves the field out.
        geometry: crop, resize and flip.

    Returns:
        Instances: N objects with the fields that :meth:`ImageMapper.__call__` lists.
    """
    rles: dict[str, list[RLE | None]] = {
        field: [record[key] for record in objects]
        for field, key in (
            (fields.GT_AMODAL_MASKS, AMODAL_SEGM),
            (fields.GT_VISIBLE_MASKS, VISIBLE_SEGM),
        )
        if all(key in record for record in objects)
    }
    if occluders is not None:
        rles[fields.GT_OCCLUDER_MASKS] = occluders
    instances = Instances(geometry.size)
    classes = [record["category_id"] for record in objects]
    instances.set(fields.GT_CLASSES, torch.tensor(classes, dtype=torch.int64))
    for field, masks in rles.items():
        instances.set(field, torch.from_numpy(decode_masks(masks, geometry)))
    _set_boxes(instances)
    return instances


def _set_boxes(instances: Instances) -> None:
    """Add the tight boxes of the masks, and the fields that Detectron2's heads read."""
    for field, masks in (
        (fields.GT_AMODAL_BOXES, fields.GT_AMODAL_MASKS),
        (fields.GT_VISIBLE_BOXES, fields.GT_VISIBLE_MASKS),
    ):
        if instances.has(masks):
            boxes = mask_boxes(instances.get(masks).numpy())
            instances.set(field, Boxes(torch.from_numpy(boxes)))
    if instances.has(fields.GT_AMODAL_MASKS):
        instances.set(fields.GT_BOXES, instances.get(fields.GT_AMODAL_BOXES).clone())
        instances.set(fields.GT_MASKS, BitMasks(instances.get(fields.GT_AMODAL_MASKS)))
    elif instances.has(fields.GT_VISIBLE_BOXES):
        instances.set(fields.GT_BOXES, instances.get(fields.GT_VISIBLE_BOXES).clone())
