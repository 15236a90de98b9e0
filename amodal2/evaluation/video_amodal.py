"""The evaluator that the trainer runs on videos; the numbers are those of ``video_tracks``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from amodal2.evaluation.report import TRACKING_COLUMNS, VideoReport
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.track import VideoPrediction
from amodal2.structures.video_json import read_video_json
from amodal2.utils.files import write_json
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

PREDICTIONS_FILE = "video_predictions.json"
REPORT_FILE = "video_report.json"


class VideoAmodalEvaluator(DatasetEvaluator):
    """Collects predicted tracks over all ranks and scores them by tube AP, HOTA and the like.

    The annotation file comes from the metadata of the dataset (``json_file``). After
    :meth:`evaluate`, ``report`` holds the full result on the main process; ``options`` are those of
    :func:`amodal2.evaluation.video_tracks.evaluate_video_tracks`.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | Path | None = None,
        distributed: bool = True,
        *,
        metrics: Collection[str] = ("ap",),
        boxes: bool = False,
        score_threshold: float | None = None,
    ) -> None:
        """Prepare for one dataset.

        Args:
            dataset_name: a dataset registered with ``register_video_amodal_instances``.
            output_dir: folder for the predictions and the report; None writes nothing.
            distributed: collect the predictions of all ranks; otherwise score those of this
                process.
            metrics: "ap", "hota" or both; see
                :func:`amodal2.evaluation.video_tracks.evaluate_video_tracks`.
            boxes: score amodal boxes as well.
            score_threshold: lowest score of the tracks that count for "hota"; None takes all.

        Raises:
            ValueError: if the dataset's metadata name no annotation file.
        """
        self._json_file = MetadataCatalog.get(dataset_name).get("json_file")
        if self._json_file is None:
            raise ValueError(
                f"VideoAmodalEvaluator: expected dataset {dataset_name!r} with json_file in its "
                "metadata, got none; register it with register_video_amodal_instances"
            )
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._distributed = distributed
        self.options: dict[str, Any] = {
            "metrics": tuple(metrics),
            "boxes": boxes,
            "score_threshold": score_threshold,
        }
        self._predictions: dict[int, VideoPrediction] = {}
        self.report: VideoReport | None = None

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions = {}
        self.report = None

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take the predictions of some videos.

        Args:
            inputs: test samples with ``video_id``.
            outputs: one dict per sample with ``prediction``, a ``VideoPrediction`` whose categories
                are contiguous class indices.

        Raises:
            ValueError: if an output belongs to another video than its input.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            prediction = output["prediction"]
            if prediction.video_id != sample["video_id"]:
                raise ValueError(
                    f"VideoAmodalEvaluator.process: expected tracks of video {sample['video_id']}, "
                    f"got those of video {prediction.video_id}"
                )
            self._predictions[prediction.video_id] = prediction

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Score what was taken in since the last reset.

        Returns:
            OrderedDict: row name (``visible``, ``amodal``, each with ``_lt50`` and ``_gt50``, with
            boxes ``amodal_box``) -> metric
            name -> percent, or number of cases (``IDSW``, ``Frag``). A kind of mask that was not
            predicted has no row, an undefined metric no entry. Empty on all but the main process,
            and if the dataset has no annotations.

        Raises:
            AnnotationError: if the annotation file or a prediction is invalid.
        """
        predictions = self._gather()
        if predictions is None:
            return OrderedDict()
        dataset = read_video_json(self._json_file)
        records = self._to_records(predictions, [entry["id"] for entry in dataset.categories])
        if self._output_dir is not None:
            write_json(self._output_dir / PREDICTIONS_FILE, records)
        if not dataset.annotations:
            logger.warning("%s has no annotations: nothing to score", self._json_file)
            return OrderedDict()
        self.report = evaluate_video_tracks(dataset, records, occlusion_bins=True, **self.options)
        if self._output_dir is not None:
            self.report.to_json(self._output_dir / REPORT_FILE)
        logger.info("Tracks of %s:\n%s", self._json_file, self.report)
        results = OrderedDict((name, row.percent()) for name, row in self.report.rows.items())
        for name, tracking in self.report.tracking.items():
            found = tracking.percent()
            results.setdefault(name, {}).update(
                {column: found[column] for column in TRACKING_COLUMNS if column in found}
            )
        return results

    def _gather(self) -> dict[int, VideoPrediction] | None:
        """Return all ranks' predictions by ascending video id; None except on the main process."""
        merged = self._predictions
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(self._predictions, dst=0)
            if not comm.is_main_process():
                return None
            merged = {}
            for part in parts:
                merged.update(part)
        return {video_id: merged[video_id] for video_id in sorted(merged)}

    @staticmethod
    def _to_records(
        predictions: dict[int, VideoPrediction], category_ids: list[int]
    ) -> list[dict[str, Any]]:
        """Turn tracks into prediction records with the category ids of the dataset."""
        records = [record for one in predictions.values() for record in one.to_annotations()]
        for record in records:
            index = record["category_id"]
            if not 0 <= index < len(category_ids):
                raise ValueError(
                    f"VideoAmodalEvaluator: expected class indices below {len(category_ids)}, the "
                    f"number of categories of the dataset, got {index} in video "
                    f"{record['video_id']}; does the model's NUM_CLASSES fit the dataset?"
                )
            record["category_id"] = category_ids[index]
        return records
