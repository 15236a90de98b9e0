"""Mapper that pastes complete objects of the training set into every training image."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetCatalog

from amodal2.data.copy_paste import Composer, Layer, layers_of_image
from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY
from amodal2.data.mappers.image import ImageMapper
from amodal2.data.reference_sets import find_references
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import encode_masks, rle_box


@AMODAL_MAPPER_REGISTRY.register()
class CopyPasteMapper(ImageMapper):
    """The image mapper on compositions, whose amodal masks are exact.

    Visible masks suffice: of an image without amodal masks only complete objects and pasted ones
    become instances.
    """

    @configurable
    def __init__(self, *, composer: Composer | None, **settings: Any) -> None:
        """Store the settings.

        Args:
            composer: pastes objects; None leaves images alone.
            **settings: of ``ImageMapper``.
        """
        super().__init__(**settings)
        self.composer = composer

    @classmethod
    def from_config(cls, cfg: CfgNode, *, is_train: bool = True) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        settings = super().from_config(cfg, is_train=is_train)
        composer, node = None, cfg.INPUT.AMODAL
        if is_train:
            dicts = [item for name in cfg.DATASETS.TRAIN for item in DatasetCatalog.get(name)]
            composer = Composer(
                find_references(dicts, node.PASTE_MIN_SIDE),
                count=tuple(node.PASTE_COUNT),
                scale=tuple(node.PASTE_SCALE),
                flip=cfg.INPUT.RANDOM_FLIP == "horizontal",
                most_hidden=node.PASTE_MOST_HIDDEN,
            )
        return settings | {"composer": composer}

    def load(
        self, dataset_dict: dict[str, Any], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Compose the image of a dict."""
        image, annotations = super().load(dataset_dict, rng)
        if self.composer is None:
            return image, annotations
        image, layers = self.composer(rng, image, layers_of_image(dataset_dict))
        return image, records_of_layers(layers)


def records_of_layers(layers: list[Layer]) -> list[dict[str, Any]]:
    """Turn layers into object records in normal form.

    Args:
        layers: nearest last; with a visible pixel unless they are crowds.

    Returns:
        list[dict]: one per layer; with ``order`` if no object is hidden by anything but layers.
    """
    if not layers:
        return []
    whole = encode_masks(np.stack([layer.amodal for layer in layers]))
    seen = encode_masks(np.stack([layer.visible for layer in layers]))
    ordered = all(layer.exact or layer.crowd for layer in layers)
    records = []
    for n, layer in enumerate(layers):
        area, shown = int(layer.amodal.sum()), int(layer.visible.sum())
        record: dict[str, Any] = {
            "id": n + 1,
            "category_id": layer.class_id,
            "iscrowd": int(layer.crowd),
            AMODAL_SEGM: whole[n],
            VISIBLE_SEGM: seen[n] if shown else None,
            "amodal_bbox": list(rle_box(whole[n])),
            "visible_bbox": list(rle_box(seen[n])) if shown else None,
            "amodal_area": area,
            "visible_area": shown,
            "occlusion_rate": 1 - shown / area,
        }
        if ordered:
            record["order"] = {"cluster": 0, "rank": len(layers) - 1 - n}
        records.append(record)
    return records
