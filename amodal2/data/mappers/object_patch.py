"""Mapper from one object of an image to a square patch around it, for systems that complete masks.

The crop rule is C2F-Seg's: the object's box is enlarged about its centre, cut (not shifted) at the
border of the image, and resized to a square whatever its aspect ratio. Shapes: S side of the patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, sample_generator
from amodal2.data.mappers.image import build_instances, read_sized_image, to_model_image
from amodal2.data.mappers.occluders import build_occluders
from amodal2.data.transforms import ClipGeometry, mask_noise, random_color_change
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM

OBJECT_KEY = "object"
"""Key of a dataset dict: position of the chosen object in its annotations."""
_BOXES = ("visible", "amodal")
_LEAST_HIDDEN = 0.1


def split_objects(dataset_dicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn image dicts into one dict per object, so that a loader sees each object once.

    Args:
        dataset_dicts: dicts of :mod:`amodal2.data.datasets.coco_amodal`.

    Returns:
        list[dict]: the same dicts with ``object``; objects without visible pixels and crowds, which
        nothing can be completed from, are left out. Annotations are shared, not copied.
    """
    return [{**item, OBJECT_KEY: number} for item in dataset_dicts for number in _choices(item)]


def repeat_hidden(items: Sequence[dict[str, Any]], times: int) -> list[dict[str, Any]]:
    """Repeat the objects that something is hidden of, so that training sees them more often.

    Args:
        items: dicts of :func:`split_objects`.
        times: how often objects are listed whose ``occlusion_rate`` is at least 0.1; the others are
            listed once.

    Returns:
        list[dict]: the same dicts.

    Raises:
        ValueError: if ``times`` is below 1, or above it where a dict names no object.
    """
    if times < 1:
        raise ValueError(f"repeat_hidden: expected at least 1 time, got {times}")
    if times > 1 and any(OBJECT_KEY not in item for item in items):
        raise ValueError(
            f"repeat_hidden: expected dicts of one object for {times} times, got whole images or "
            "videos; set INPUT.AMODAL.PATCH_HIDDEN_REPEAT to 1 for this mapper"
        )
    if times == 1:
        return list(items)
    return [item for item in items for _ in range(times if _much_hidden(item) else 1)]


@AMODAL_MAPPER_REGISTRY.register()
class ObjectPatchMapper:
    """Crops an enlarged box around one object, with every kind of its masks.

    1. Takes the object that the dict names (``split_objects``), or draws one.
    2. Enlarges its box, crops image and masks, and resizes both to S x S.
    3. In training also flips, changes colours, and disturbs the visible mask that the model is
       given, as a detector would.

    The loaders of this project apply ``split_objects`` themselves; Detectron2's own take its result
    as ``dataset=`` and this as ``mapper=``, with or without the keys of ``INPUT.AMODAL``.
    """

    expand_dicts = staticmethod(split_objects)

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        size: int = 256,
        enlarge: tuple[float, float] = (2.0, 2.0),
        box: str = "visible",
        flip: bool = False,
        image_format: str = "RGB",
        occluder: str = "all_neighbours",
        color_jitter: float = 0.0,
        noise: str = "none",
    ) -> None:
        """Store and check the settings.

        Args:
            is_train: draw flip, colours and noise.
            size: S in pixels.
            enlarge: smallest and largest factor on the sides of the box.
            box: "visible" or "amodal", the box that is enlarged.
            flip: mirror half of the training patches.
            image_format: "BGR" or "RGB".
            occluder: how occluder masks are found, see ``build_occluders``.
            color_jitter: strength of the colour change in [0, 1].
            noise: how training changes the given visible mask, see ``mask_noise``.

        Raises:
            ValueError: if the box is none of the two, the factors are not rising from 1, or the
                noise is unknown.
        """
        if box not in _BOXES:
            raise ValueError(f"ObjectPatchMapper: expected a box of {_BOXES}, got {box!r}")
        if not 1 <= enlarge[0] <= enlarge[1]:
            raise ValueError(
                f"ObjectPatchMapper: expected 1 <= smallest <= largest factor, got {enlarge}"
            )
        self.is_train = is_train
        self.size = size
        self.enlarge = enlarge
        self.box_key = f"{box}_bbox"
        self.flip = flip
        self.image_format = image_format
        self.occluder = occluder
        self.color_jitter = color_jitter
        self.noise = mask_noise(noise)

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        settings: dict[str, Any] = {
            "is_train": is_train,
            "flip": cfg.INPUT.RANDOM_FLIP == "horizontal",
            "image_format": cfg.INPUT.FORMAT,
        }
        node = cfg.INPUT.get("AMODAL")
        if node is not None:
            fixed = (node.PATCH_ENLARGE_TEST, node.PATCH_ENLARGE_TEST)
            settings["size"] = node.PATCH_SIZE
            settings["enlarge"] = tuple(node.PATCH_ENLARGE) if is_train else fixed
            settings["box"] = node.PATCH_BOX
            settings["occluder"] = node.OCCLUDER
            settings["color_jitter"] = node.COLOR_JITTER
            settings["noise"] = node.PATCH_NOISE
        return settings

    def __call__(
        self, dataset_dict: dict[str, Any], sample_seed: int | None = None
    ) -> dict[str, Any]:
        """Map one object.

        Args:
            dataset_dict: a dict of :mod:`amodal2.data.datasets.coco_amodal` whose annotations have
                both kinds of masks; not changed.
            sample_seed: seed of all random choices; None draws one, see ``sample_generator``.

        Returns:
            dict: "image_id", "height", "width" (original, pixels), "annotation_id", "image" (uint8
            Tensor[3, S, S]), "instances" (one object with the fields of the image mapper, all masks
            S x S), "input_mask" (bool Tensor[S, S], the visible mask, changed in training), and
            for the way back "crop" (top, left, height, width in source pixels), "flipped" and
            "visible_segm" (the visible mask of the image, run-length encoded).

        Raises:
            ValueError: if the image has no object with visible pixels.
        """
        rng = sample_generator(sample_seed)
        objects = dataset_dict["annotations"]
        number = dataset_dict.get(OBJECT_KEY)
        if number is None:
            choices = _choices(dataset_dict)
            if not choices:
                raise ValueError(
                    "ObjectPatchMapper: expected an object with visible pixels and both kinds of "
                    f"masks, got none in image {dataset_dict.get('image_id')}; use split_objects"
                )
            number = choices[int(rng.integers(len(choices)))]
        image = read_sized_image(dataset_dict)
        source = (image.shape[0], image.shape[1])
        factor = float(rng.uniform(*self.enlarge))
        geometry = ClipGeometry(
            crop=enlarged_crop(objects[number][self.box_key], factor, source),
            size=(self.size, self.size),
            flip_x=self.is_train and self.flip and bool(rng.random() < 0.5),
        )
        frames = geometry.apply_frames(image[None])
        if self.is_train:
            frames = random_color_change(rng, self.color_jitter).apply_frames(frames)
        real = [record for record in objects if not record.get("iscrowd", 0)]
        own = next(i for i, record in enumerate(real) if record is objects[number])
        occluders = build_occluders(real, source, self.occluder, [own])
        instances = build_instances([objects[number]], occluders, geometry)
        given = instances.get(fields.GT_VISIBLE_MASKS)[0]
        if self.is_train and self.noise is not None:
            given = torch.from_numpy(self.noise.apply(given.numpy(), rng))
        return {
            **{key: dataset_dict[key] for key in ("image_id", "height", "width")},
            "annotation_id": objects[number]["id"],
            "image": to_model_image(frames, self.image_format),
            "instances": instances,
            "input_mask": given,
            "crop": geometry.crop,
            "flipped": geometry.flip_x,
            VISIBLE_SEGM: objects[number][VISIBLE_SEGM],
        }


def enlarged_crop(
    box: Sequence[float], factor: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Enlarge a box about its centre and cut it at the border (C2F-Seg's integer rule).

    Args:
        box: x, y, w, h in pixels.
        factor: on both sides, at least 1.
        size: height and width of the image.

    Returns:
        tuple: top, left, height, width in pixels.
    """
    left, width = _enlarged_side(box[0], box[2], factor, size[1])
    top, height = _enlarged_side(box[1], box[3], factor, size[0])
    return top, left, height, width


def _enlarged_side(start: float, length: float, factor: float, limit: int) -> tuple[int, int]:
    centre, half = int(2 * start + length) // 2, int(length * factor) // 2
    low, high = max(0, centre - half), min(limit - 1, centre + half)
    return low, high - low + 1


def _much_hidden(item: dict[str, Any]) -> bool:
    return bool(item["annotations"][item[OBJECT_KEY]]["occlusion_rate"] >= _LEAST_HIDDEN)


def _choices(item: dict[str, Any]) -> list[int]:
    """Return the positions of the objects that can be completed."""
    return [
        number
        for number, record in enumerate(item.get("annotations", []))
        if not record.get("iscrowd", 0) and record.get(VISIBLE_SEGM) and record.get(AMODAL_SEGM)
    ]
