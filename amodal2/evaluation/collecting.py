"""What the evaluators of images and videos share: predictions of all ranks, ids of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

Part = TypeVar("Part")
"""What is predicted for one image or video."""


class CollectingEvaluator(DatasetEvaluator, Generic[Part]):
    """Keeps one prediction per image or video and joins those of all ranks.

    The numbers do not depend on how images or videos were dealt out to the ranks.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | Path | None,
        distributed: bool,
        *,
        register: str,
    ) -> None:
        """Prepare for one dataset.

        Args:
            dataset_name: a registered dataset.
            output_dir: folder for what is written; None writes nothing.
            distributed: collect the predictions of all ranks; otherwise score those of this
                process.
            register: name of the function that registers such datasets, for the message.

        Raises:
            ValueError: if the dataset's metadata name no annotation file.
        """
        self._json_file = MetadataCatalog.get(dataset_name).get("json_file")
        if self._json_file is None:
            raise ValueError(
                f"{type(self).__name__}: expected dataset {dataset_name!r} with json_file in its "
                f"metadata, got none; register it with {register}"
            )
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._distributed = distributed
        self._predictions: dict[int, Part] = {}

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions = {}

    def _gather(self) -> list[Part] | None:
        """Return all ranks' predictions by ascending id; None except on the main process."""
        merged = self._predictions
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(self._predictions, dst=0)
            if not comm.is_main_process():
                return None
            merged = {}
            for part in parts:
                merged.update(part)
        return [merged[key] for key in sorted(merged)]

    def _with_category_ids(
        self, records: list[dict[str, Any]], categories: list[dict[str, Any]], scene: str
    ) -> list[dict[str, Any]]:
        """Return records with category ids of the dataset in place of contiguous class indices.

        Raises:
            ValueError: if an index is out of range.
        """
        for record in records:
            index = record["category_id"]
            if not 0 <= index < len(categories):
                raise ValueError(
                    f"{type(self).__name__}: expected class indices below {len(categories)}, the "
                    f"number of categories of the dataset, got {index} in {scene} "
                    f"{record[f'{scene}_id']}; does the model's NUM_CLASSES fit the dataset?"
                )
        return [
            {**record, "category_id": categories[record["category_id"]]["id"]} for record in records
        ]
