"""Rows of mask transfer: what a detector found visible, completed by references.

The boxes, classes, scores and visible masks are MaskJoint's, in the detected and in the true boxes;
the image is the original one.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.aquarium_runs import make_config
from benchmarks.image_runs import SOURCE, Plan, Record, measure, read_truth, score_completions
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from torch import nn

from amodal2.data.mappers.image import to_model_image
from amodal2.data.sized_image import read_sized_image
from amodal2.model_zoo.model_zoo import load_model
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM
from amodal2.structures.rle import decode_rle, encode_masks
from amodal2.utils.files import write_json

CONFIG = "mask_transfer/quick/mask_transfer_market.yaml"
DETECTOR = "mask_joint"
_NODE = "MODEL.MASK_TRANSFER"
TRANSFERS = {
    "mask_transfer": ("Mask transfer, as published", ()),
    "mask_transfer_improved": (
        "Mask transfer, REFINE affine, UNION_VISIBLE, RERANK 4, TOPK 3",
        (
            *(f"{_NODE}.REFINE", "affine", f"{_NODE}.UNION_VISIBLE", True),
            *(f"{_NODE}.RERANK", 4.0, f"{_NODE}.TOPK", 3),
        ),
    ),
}
"""Name of a row -> its title, and config keys and values."""


@dataclass(frozen=True)
class Transfer:
    """A trained mask transfer.

    Args:
        weights: checkpoint of ``MaskTransfer``.
        bank: file of ``tools/build_reference_bank.py`` made with it.
        score: detections with less keep MaskJoint's amodal mask, to save time.
    """

    weights: Path
    bank: Path
    score: float = 0.1

    def options(self, name: str) -> list[Any]:
        """Return the config keys of a row."""
        return [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(self.weights)),
            *(f"{_NODE}.BANK", str(self.bank), *TRANSFERS[name][1]),
        ]


def run_transfer(plan: Plan, transfer: Transfer, name: str, seed: int) -> None:
    """Complete what MaskJoint's run found, and write the numbers.

    Args:
        plan: of the table.
        transfer: what completes.
        name: of the row.
        seed: of MaskJoint's run, which is complete.
    """
    torch.set_num_threads(plan.threads)
    cfg = make_config(CONFIG, transfer.options(name), plan.predictions(name, seed).parent)
    model = load_model(cfg)
    found = json.loads(plan.predictions(DETECTOR, seed).read_text(encoding="utf-8"))
    truth = read_truth(plan)
    images = {image["id"] for image in truth.images}
    categories = sorted(entry["id"] for entry in truth.categories)
    result: dict[str, list[Record]] = {}
    seconds = dict.fromkeys(found, 0.0)
    for kind, records in found.items():
        result[kind] = []
        for item in DatasetCatalog.get(f"{SOURCE}_val"):
            if item["image_id"] not in images:
                continue
            image = to_model_image(read_sized_image(item)[None], cfg.INPUT.FORMAT)
            own = [one for one in records if one["image_id"] == item["image_id"]]
            begin = time.process_time()
            result[kind] += complete(model, image, own, categories, transfer.score)
            seconds[kind] += time.process_time() - begin
    metrics = measure(truth, result["detected"]) | score_completions(truth, result["completed"])
    numbers = {
        "head": name,
        "seed": seed,
        "options": transfer.options(name),
        "metrics": metrics,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_per_iteration": None,
        "images_per_second": len(images) / seconds["detected"],
    }
    write_json(plan.predictions(name, seed), result)
    write_json(plan.result(name, seed), numbers, indent=1)


def complete(
    model: nn.Module,
    image: torch.Tensor,
    records: list[Record],
    categories: list[int],
    score: float,
) -> list[Record]:
    """Replace the amodal masks of the objects of an image that have a visible one.

    Args:
        model: a ``MaskTransfer`` with a bank.
        image (Tensor[3, H, W]): uint8, at the size of the masks.
        records: prediction records of the image.
        categories: ids in the order of the classes.
        score: records with less stay as they are.

    Returns:
        list[dict]: the records, with other masks.
    """
    visible = [decode_rle(record[VISIBLE_SEGM]) for record in records]
    chosen = [n for n, mask in enumerate(visible) if mask.any() and records[n]["score"] >= score]
    if not chosen:
        return records
    given = Instances((image.shape[1], image.shape[2]))
    boxes = [
        BoxMode.convert(records[n]["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for n in chosen
    ]
    classes = [categories.index(records[n]["category_id"]) for n in chosen]
    given.set(fields.PRED_BOXES, Boxes(torch.tensor(boxes)))
    given.set(fields.PRED_CLASSES, torch.tensor(classes, dtype=torch.int64))
    given.set(fields.SCORES, torch.tensor([records[n]["score"] for n in chosen]))
    given.set(fields.PRED_VISIBLE_MASKS, torch.from_numpy(np.stack([visible[n] for n in chosen])))
    with torch.no_grad():
        found = model.complete(image, given)
    masks = encode_masks(found.get(fields.PRED_AMODAL_MASKS).numpy())
    result = list(records)
    for n, mask in zip(chosen, masks, strict=True):
        result[n] = {**records[n], AMODAL_SEGM: mask}
    return result
