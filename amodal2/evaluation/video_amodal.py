"""The evaluator that the trainer runs on videos; the numbers are those of ``video_tracks``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from amodal2.evaluation.collecting import CollectingEvaluator
from amodal2.evaluation.report import TRACKING_COLUMNS, VideoReport
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.track import VideoPrediction
from amodal2.structures.video_json import read_video_json
from amodal2.utils.files import write_json
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)

PREDICTIONS_FILE = "video_predictions.json"
REPORT_FILE = "video_report.json"


class VideoAmodalEvaluator(CollectingEvaluator[VideoPrediction]):
    """Collects predicted tracks over all ranks and scores them by tube AP, HOTA and the like.

    The annotation file comes from the metadata of the dataset (``json_file``). After
    :meth:`evaluate`, ``report`` holds all numbers on the main process, but not what they come from;
    ``options`` are those of
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
        super().__init__(
            dataset_name, output_dir, distributed, register="register_video_amodal_instances"
        )
        self.options: dict[str, Any] = {
            "metrics": tuple(metrics),
            "boxes": boxes,
            "score_threshold": score_threshold,
        }
        self.report: VideoReport | None = None

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()
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
        found = [record for one in predictions for record in one.to_annotations()]
        records = self._with_category_ids(found, dataset.categories, "video")
        if self._output_dir is not None:
            write_json(self._output_dir / PREDICTIONS_FILE, records)
        if not dataset.annotations:
            logger.warning("%s has no annotations: nothing to score", self._json_file)
            return OrderedDict()
        self.report = evaluate_video_tracks(
            dataset, records, occlusion_bins=True, details=False, **self.options
        )
        if self._output_dir is not None:
            self.report.to_json(self._output_dir / REPORT_FILE)
        logger.info("Tracks of %s:\n%s", self._json_file, self.report)
        results = OrderedDict((name, row.percent()) for name, row in self.report.rows.items())
        for name, tracking in self.report.tracking.items():
            percent = tracking.percent()
            results.setdefault(name, {}).update(
                {column: percent[column] for column in TRACKING_COLUMNS if column in percent}
            )
        return results
