"""From a dataset's ``evaluator_type`` to its evaluator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from amodal2.evaluation.completion_evaluator import CompletionEvaluator
from amodal2.evaluation.image_amodal import ImageAmodalEvaluator
from amodal2.evaluation.image_protocols import ImageOptions
from amodal2.evaluation.video_amodal import VideoAmodalEvaluator

Factory = Callable[[CfgNode, str, str | Path | None], DatasetEvaluator]


def _image_evaluator(cfg: CfgNode, name: str, folder: str | Path | None) -> DatasetEvaluator:
    """Score detections, or completions of known objects."""
    node = cfg.TEST.AMODAL
    if node.IMAGE_PROTOCOL == "completion":
        return CompletionEvaluator(name, folder)
    return ImageAmodalEvaluator(
        name,
        folder,
        protocol=node.IMAGE_PROTOCOL,
        options=ImageOptions(occlusion=tuple(node.IMAGE_OCCLUSION)),
    )


EVALUATORS: dict[str, Factory] = {
    "coco_amodal": _image_evaluator,
    "video_amodal": lambda cfg, name, folder: VideoAmodalEvaluator(
        name,
        folder,
        metrics=cfg.TEST.AMODAL.VIDEO_METRICS,
        boxes=cfg.TEST.AMODAL.VIDEO_BOXES,
        score_threshold=cfg.TEST.AMODAL.TRACKING_SCORE_THRESHOLD,
    ),
}
"""``evaluator_type`` -> function of (cfg, dataset name, output folder or None)."""


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_dir: str | Path | None = None
) -> DatasetEvaluator:
    """Make the evaluator that fits a registered dataset; ``TEST.AMODAL`` chooses its metrics.

    Args:
        cfg: full configuration, handed to the factory.
        dataset_name: a registered dataset; its metadata hold ``evaluator_type``.
        output_dir: folder for predictions and reports; None writes nothing.

    Returns:
        DatasetEvaluator: ready to be reset.

    Raises:
        ValueError: if the dataset has no ``evaluator_type`` or an unknown one.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise ValueError(
            f"build_evaluator: expected dataset {dataset_name!r} with an evaluator_type among "
            f"{sorted(EVALUATORS)}, got {kind!r}"
        )
    return EVALUATORS[kind](cfg, dataset_name, output_dir)
