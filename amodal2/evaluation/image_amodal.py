"""The evaluator that the trainer runs on image datasets; the numbers are of ``image_protocols``."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances

from amodal2.evaluation.collecting import CollectingEvaluator
from amodal2.evaluation.image_protocols import PROTOCOLS, ImageOptions, evaluate_images
from amodal2.evaluation.image_report import ImageReport
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, OCCLUDER_SEGM, VISIBLE_SEGM, read_image_json
from amodal2.structures.rle import encode_masks
from amodal2.utils.files import write_json
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

PREDICTIONS_FILE = "image_predictions.json"
REPORT_FILE = "image_report.json"
TABLE_FILE = "image_report.csv"

Record = dict[str, Any]


class ImageAmodalEvaluator(CollectingEvaluator[list[Record]]):
    """Collects predicted objects over all ranks and scores them by AP and AR.

    The annotation file comes from the metadata of the dataset (``json_file``). Predictions are
    ``Instances`` with ``pred_amodal_masks`` (else ``pred_masks``, which a model trained on the
    image mapper's ``gt_masks`` fills with amodal masks) and/or ``pred_visible_masks``. After
    :meth:`evaluate`, ``report`` holds all numbers on the main process, but not what they come from.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | Path | None = None,
        distributed: bool = True,
        *,
        protocol: str = "coco",
        options: ImageOptions | None = None,
    ) -> None:
        """Prepare for one dataset.

        Args:
            dataset_name: a dataset registered with ``register_amodal_coco_instances``.
            output_dir: folder for the predictions and the report; None writes nothing.
            distributed: collect the predictions of all ranks; otherwise score those of this
                process.
            protocol: a name of ``image_protocols.PROTOCOLS``.
            options: choices beyond the protocol; by default COCOA's occlusion levels are added.

        Raises:
            ValueError: if the metadata name no annotation file, or the protocol is unknown.
        """
        super().__init__(
            dataset_name, output_dir, distributed, register="register_amodal_coco_instances"
        )
        if protocol not in PROTOCOLS:
            raise ValueError(
                f"ImageAmodalEvaluator: expected a protocol of {sorted(PROTOCOLS)}, got "
                f"{protocol!r}"
            )
        self._protocol = protocol
        self._options = options or ImageOptions(occlusion=("cocoa",))
        self.report: ImageReport | None = None

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()
        self.report = None

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take the predictions of some images.

        Args:
            inputs: test samples with ``image_id``.
            outputs: one dict per sample with ``instances``, at the size of the original image,
                whose ``pred_classes`` are contiguous class indices.

        Raises:
            ValueError: if the instances have no masks.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            self._predictions[image_id] = instances_to_records(output["instances"], image_id)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Score what was taken in since the last reset.

        Returns:
            OrderedDict: row name (``amodal``, ``visible``, ``amodal/cocoa/heavy``, ...) -> metric
            name -> percent. A kind of mask that was not predicted has no row, an undefined metric
            no entry. Empty on all but the main process, and if the dataset has no annotations.

        Raises:
            AnnotationError: if the annotation file or a prediction is invalid.
        """
        predictions = self._gather()
        if predictions is None:
            return OrderedDict()
        dataset = read_image_json(self._json_file)
        found = [record for records in predictions for record in records]
        records = self._with_category_ids(found, dataset.categories, "image")
        if self._output_dir is not None:
            write_json(self._output_dir / PREDICTIONS_FILE, records)
        if not dataset.annotations:
            logger.warning("%s has no annotations: nothing to score", self._json_file)
            return OrderedDict()
        self.report = evaluate_images(
            dataset, records, protocol=self._protocol, options=self._options, details=False
        )
        if self._output_dir is not None:
            self.report.to_json(self._output_dir / REPORT_FILE)
            self.report.to_csv(self._output_dir / TABLE_FILE)
        logger.info("AP and AR on %s:\n%s", self._json_file, self.report)
        return OrderedDict(self.report.percent())


def instances_to_records(instances: Instances, image_id: int) -> list[Record]:
    """Turn the predicted objects of one image into prediction records.

    Args:
        instances: N objects with ``pred_classes``, ``scores``, masks [N, H, W] (bool or scores of
            which those above 0.5 count) and, where predicted, ``pred_boxes`` and
            ``pred_occluder_masks``.
        image_id: of the image.

    Returns:
        list[dict]: N records whose ``category_id`` is the contiguous class index.

    Raises:
        ValueError: if there are neither amodal nor visible masks, or masks inside boxes only.
    """
    amodal = next(
        (n for n in (fields.PRED_AMODAL_MASKS, fields.PRED_MASKS) if instances.has(n)), None
    )
    sources = {AMODAL_SEGM: amodal, VISIBLE_SEGM: fields.PRED_VISIBLE_MASKS}
    masks = {
        key: encode_masks(_to_bool(instances.get(name)))
        for key, name in sources.items()
        if name is not None and instances.has(name)
    }
    if not masks:
        raise ValueError(
            f"instances_to_records: expected instances with {fields.PRED_AMODAL_MASKS}, "
            f"{fields.PRED_MASKS} or {fields.PRED_VISIBLE_MASKS}, got "
            f"{sorted(instances.get_fields())} in image {image_id}"
        )
    if instances.has(fields.PRED_OCCLUDER_MASKS):
        masks[OCCLUDER_SEGM] = encode_masks(_to_bool(instances.get(fields.PRED_OCCLUDER_MASKS)))
    columns: dict[str, list[Any]] = dict(masks)
    columns["category_id"] = instances.get(fields.PRED_CLASSES).tolist()
    columns["score"] = instances.get(fields.SCORES).tolist()
    if instances.has(fields.PRED_BOXES):
        corners = instances.get(fields.PRED_BOXES).tensor.cpu()
        boxes = BoxMode.convert(corners, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns["bbox"] = boxes.tolist()
    return [
        {"image_id": image_id, **{key: values[i] for key, values in columns.items()}}
        for i in range(len(instances))
    ]


def _to_bool(masks: Any) -> np.ndarray:
    values = masks.cpu().numpy()
    if values.ndim != 3:
        raise ValueError(
            "instances_to_records: expected masks [N, H, W] of the whole image, got shape "
            f"{values.shape}; GeneralizedRCNNAmodal pastes every kind of mask, GeneralizedRCNN "
            "the amodal ones only"
        )
    return values if values.dtype == bool else values > 0.5
