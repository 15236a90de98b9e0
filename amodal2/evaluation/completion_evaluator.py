"""Completions of the known objects of an image dataset, scored while a system is trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amodal2.evaluation.collecting import CollectingEvaluator
from amodal2.evaluation.completion import (
    DEFAULT_PROTOCOLS,
    CompletionReport,
    evaluate_completions,
)
from amodal2.structures import fields
from amodal2.structures.image_json import AMODAL_SEGM, read_image_json
from amodal2.structures.rle import encode_mask
from amodal2.utils.files import write_json

PREDICTIONS_FILE = "completions.json"


class CompletionEvaluator(CollectingEvaluator[dict[str, Any]]):
    """Scores one amodal mask per annotated object, as systems that take ``ObjectPatchMapper`` give.

    Attributes:
        report (CompletionReport | None): of the last evaluation on this process.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | Path | None = None,
        *,
        protocols: Sequence[str] = DEFAULT_PROTOCOLS,
        distributed: bool = True,
    ) -> None:
        """Prepare for one dataset.

        Args:
            dataset_name: a registered dataset of images with visible and amodal masks.
            output_dir: folder for the predictions; None writes nothing.
            protocols: names of ``completion_variants.VARIANTS``.
            distributed: collect the predictions of all ranks.

        Raises:
            ValueError: if the dataset's metadata name no annotation file.
        """
        super().__init__(
            dataset_name, output_dir, distributed, register="register_amodal_coco_instances"
        )
        self._protocols = tuple(protocols)
        self.report: CompletionReport | None = None

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take the completions of some objects.

        Args:
            inputs: samples of ``ObjectPatchMapper``.
            outputs: one dict per sample with "instances" of one object at the image's size.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            mask = output["instances"].get(fields.PRED_AMODAL_MASKS)[0].cpu().numpy()
            self._predictions[sample["annotation_id"]] = {
                "gt_id": sample["annotation_id"],
                "image_id": sample["image_id"],
                AMODAL_SEGM: encode_mask(mask) if mask.any() else None,
            }

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Score what was taken in since the last reset.

        Returns:
            OrderedDict: protocol -> metric -> percent; empty on all but the main process. Objects
            without a visible pixel, which no system is given, count as empty masks.

        Raises:
            ValueError: if the dataset lacks a kind of mask.
        """
        predictions = self._gather()
        if predictions is None:
            return OrderedDict()
        if self._output_dir is not None:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            write_json(self._output_dir / PREDICTIONS_FILE, predictions)
        self.report = evaluate_completions(
            read_image_json(self._json_file), predictions, protocols=self._protocols
        )
        return OrderedDict(self.report.percent())
