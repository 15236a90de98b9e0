"""Train and score one row of the table of amodal heads; everything goes on where it was killed.

Folders below the output: ``detector`` (what all heads share), ``runs``, ``results`` (one JSON per
run), ``shapes.safetensors`` (VRSP's codebook).
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import build_shape_codebook
import torch
from benchmarks.aquarium_runs import make_config
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from torch import nn

import amodal2.data.datasets
import amodal2.modeling  # noqa: F401 registers the models
from amodal2.checkpoint.readers import read_weights
from amodal2.data.build import build_test_loader
from amodal2.engine import AmodalTrainer, start_run
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.image_amodal import instances_to_records
from amodal2.evaluation.image_occlusion import OCCLUSION_RULES
from amodal2.evaluation.image_protocols import ImageOptions, evaluate_images
from amodal2.evaluation.mask_transfer import measure_masks
from amodal2.structures import fields
from amodal2.structures.image_json import ImageDataset, read_image_json
from amodal2.utils.files import atomic_write, write_json

SOURCE = "market_v1_amodal"
HEADS = {
    "mask_rcnn": "Mask R-CNN",
    "mask_joint": "MaskJoint",
    "orcnn": "ORCNN",
    "aisformer": "AISFormer",
    "bcnet": "BCNet",
    "vrsp": "VRSP",
}
"""Name of a row, which is that of its config, -> title."""
LEVELS = "cocoa"
"""Rule of the occlusion levels: none, partial (up to a quarter hidden) and heavy."""
_MASK_HEAD = "roi_heads.mask_head."
_DETECTOR = "mask_rcnn"
_CODES = 128

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What all rows share.

    Args:
        out: folder of everything that is written.
        detector_iterations: of the detector that all heads go on from.
        iterations: of a head.
        val_images: the first so many of the validation set.
        threads: of the processor.
    """

    out: Path
    detector_iterations: int = 900
    iterations: int = 300
    val_images: int = 100
    threads: int = 1

    @property
    def start(self) -> Path:
        """Return the file with the weights that all heads start from."""
        return self.out / "detector" / f"start_{self.detector_iterations}.pth"

    @property
    def shapes(self) -> Path:
        """Return the file with VRSP's typical shapes."""
        return self.out / "shapes.safetensors"

    def result(self, head: str, seed: int) -> Path:
        """Return the file with a run's numbers; it exists once the run is complete."""
        return self.out / "results" / f"{head}_seed{seed}.json"

    def predictions(self, head: str, seed: int) -> Path:
        """Return the file with the masks of a run: detections, and those in the true boxes."""
        return self.out / "runs" / f"{head}_seed{seed}" / "predictions.json"


def config_name(head: str) -> str:
    """Return the path of a row's config below ``configs/``."""
    return f"roi_heads/quick/{head}_market.yaml"


def shared_options() -> list[Any]:
    """Return the config keys that all trainings have in common."""
    return [
        *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0),
        *("DATASETS.TRAIN", (f"{SOURCE}_train",), "DATASETS.TEST", ()),
        *("SOLVER.CHECKPOINT_PERIOD", 50, "SOLVER.CHECKPOINTS_KEPT", 1),
    ]


def run_options(plan: Plan, head: str, seed: int) -> list[Any]:
    """Return the config keys of one run.

    Args:
        plan: of the table.
        head: name of the row.
        seed: of data and random numbers.

    Returns:
        list: keys and values.
    """
    return [
        *shared_options(),
        *("MODEL.WEIGHTS", str(plan.start), "SEED", seed),
        *("MODEL.AMODAL_RCNN.TRAIN_MASK_HEAD_ONLY", True),
        *("MODEL.AMODAL_RCNN.OUTPUT_KINDS", ("amodal", "visible", "invisible")),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
        *("MODEL.VRSP.SHAPES", str(plan.shapes) if head == "vrsp" else ""),
        *("SOLVER.MAX_ITER", plan.iterations),
        *("SOLVER.WARMUP_ITERS", max(1, plan.iterations // 20)),
    ]


def prepare_start(plan: Plan, head: str) -> None:
    """Make what a head starts from: the trained detector without its mask head, VRSP's shapes.

    Args:
        plan: of the table.
        head: name of the row.
    """
    if not plan.start.is_file():
        folder = plan.start.parent
        options = [
            *shared_options(),
            *("MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", plan.detector_iterations),
        ]
        train(make_config(config_name(_DETECTOR), options, folder))
        state = read_weights(str(folder / "model_final.pth"))["model"]
        kept = {k: torch.as_tensor(v) for k, v in state.items() if not k.startswith(_MASK_HEAD)}
        with atomic_write(plan.start) as temporary:
            torch.save({"model": kept}, temporary)
    if head == "vrsp" and not plan.shapes.is_file():
        cfg = make_config(config_name(head), [], plan.out)
        size = 2 * cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        command = ["--dataset", f"{SOURCE}_train", "--output", str(plan.shapes)]
        if build_shape_codebook.main([*command, "--size", str(size), "--codes", str(_CODES)]):
            raise RuntimeError(f"prepare_start: expected {plan.shapes}, got none")


def train(cfg: CfgNode) -> tuple[nn.Module, float | None]:
    """Train, or go on, to the last iteration.

    Args:
        cfg: of the run.

    Returns:
        tuple: the model, and the seconds of processor time per iteration in the latest process
        that trained; None if that was killed.
    """
    start_run(cfg)
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load(resume=True)
    begin, left = time.process_time(), trainer.max_iter - trainer.start_iter
    trainer.train()
    file = Path(cfg.OUTPUT_DIR) / "seconds.json"
    if left > 0:
        write_json(file, (time.process_time() - begin) / left)
    seconds = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return trainer.checkpointer.model, seconds


def run_head(plan: Plan, head: str, seed: int) -> None:
    """Train and score one head with one seed, and write its numbers.

    Args:
        plan: of the table.
        head: name of the row.
        seed: of data and random numbers.
    """
    torch.set_num_threads(plan.threads)
    prepare_start(plan, head)
    options = run_options(plan, head, seed)
    cfg = make_config(config_name(head), options, plan.predictions(head, seed).parent)
    model, seconds = train(cfg)
    truth = read_truth(plan)
    records, completions, speed = predict(model.eval(), cfg, truth)
    write_json(plan.predictions(head, seed), {"detected": records, "completed": completions})
    result = {
        "head": head,
        "seed": seed,
        "options": json.loads(json.dumps(options)),
        "metrics": measure(truth, records) | score_completions(truth, completions),
        "parameters": sum(p.numel() for p in model.roi_heads.mask_head.parameters()),
        "seconds_per_iteration": seconds,
        "images_per_second": speed,
    }
    write_json(plan.result(head, seed), result, indent=1)


def read_truth(plan: Plan) -> ImageDataset:
    """Return the first images of the validation set.

    Args:
        plan: of the table.
    """
    dataset = read_image_json(MetadataCatalog.get(f"{SOURCE}_val").json_file)
    images = dataset.images[: plan.val_images]
    kept = {image["id"] for image in images}
    objects = [one for one in dataset.annotations if one["image_id"] in kept]
    return replace(dataset, images=images, annotations=objects)


@torch.no_grad()
def predict(
    model: nn.Module, cfg: CfgNode, truth: ImageDataset
) -> tuple[list[Record], list[Record], float]:
    """Detect the objects of all images, and complete those in the true boxes.

    Args:
        model: a detector in evaluation mode.
        cfg: of its run.
        truth: the images.

    Returns:
        tuple: prediction records, one completion per true object, and images per second of
        processor time for the detection.
    """
    categories = sorted(entry["id"] for entry in truth.categories)
    objects: dict[int, list[Record]] = {image["id"]: [] for image in truth.images}
    for record in truth.annotations:
        objects[record["image_id"]].append(record)
    found, completions, seconds = [], [], 0.0
    for batch in build_test_loader(cfg, f"{SOURCE}_val"):
        image_id = batch[0]["image_id"]
        if image_id not in objects:
            continue
        begin = time.process_time()
        detected = model(batch)[0]["instances"]
        seconds += time.process_time() - begin
        found += instances_to_records(detected, image_id)
        own = objects[image_id]
        (given,) = model.inference(batch, [true_boxes(batch[0], own, categories)])
        masks = instances_to_records(given["instances"], image_id)
        completions += [
            {**mask, "gt_id": one["id"], "category_id": one["category_id"]}
            for one, mask in zip(own, masks, strict=True)
        ]
    for record in found:
        record["category_id"] = categories[record["category_id"]]
    return found, completions, len(objects) / seconds


def true_boxes(sample: Record, objects: list[Record], categories: list[int]) -> Instances:
    """Return true amodal boxes and classes as detections at the size of the network's input.

    Args:
        sample: of the test loader.
        objects: records of its N objects.
        categories: ids in the order of the classes.
    """
    height, width = sample["image"].shape[-2:]
    boxes = Boxes(torch.tensor([record["amodal_bbox"] for record in objects]).reshape(-1, 4))
    boxes.tensor[:, 2:] += boxes.tensor[:, :2]
    boxes.scale(width / sample["width"], height / sample["height"])
    classes = [categories.index(record["category_id"]) for record in objects]
    result = Instances((height, width))
    result.set(fields.PRED_BOXES, boxes)
    result.set(fields.PRED_CLASSES, torch.tensor(classes, dtype=torch.int64))
    result.set(fields.SCORES, torch.ones(len(objects)))
    return result


def measure(truth: ImageDataset, records: list[Record]) -> dict[str, dict[str, float]]:
    """Score detections.

    Args:
        truth: the images.
        records: predictions with category ids.

    Returns:
        dict: rows of the protocol ``coco`` with those of the occlusion levels, and ``zhang``: AP at
        single thresholds, mean IoU of whole objects and hidden parts; in percent.
    """
    options = ImageOptions(occlusion=(LEVELS,))
    rows = dict(evaluate_images(truth, records, options=options, details=False).percent())
    masks = measure_masks(truth, records).to_dict()
    rows["zhang"] = {
        key: 100 * value
        for key, value in masks.items()
        if isinstance(value, float) and math.isfinite(value)
    }
    return rows


def score_completions(
    truth: ImageDataset, completions: list[Record]
) -> dict[str, dict[str, float]]:
    """Score one amodal mask per true object by occlusion level.

    Args:
        truth: the images.
        completions: records with ``gt_id``.

    Returns:
        dict: ``boxes/<level>`` -> ``full`` and ``occ``, the mean IoU of whole objects and hidden
        parts (protocol ``c2f_image``) in percent.
    """
    rows = {}
    levels = {"all": (0.0, 1.0), **OCCLUSION_RULES[LEVELS].bins}
    for name, (low, high) in levels.items():
        objects = [one for one in truth.annotations if low <= one["occlusion_rate"] <= high]
        kept = {one["id"] for one in objects}
        report = evaluate_completions(
            replace(truth, annotations=objects),
            [one for one in completions if one["gt_id"] in kept],
            protocols=("c2f_image",),
        )
        values = report.percent()["c2f_image"]
        rows[f"boxes/{name}"] = {key: values[key] for key in ("full", "occ") if key in values}
    return rows
