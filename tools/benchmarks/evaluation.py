"""Cases of the evaluation on the workloads of shared/reference/evaluation.md, section 6.

All sides start from parsed files, with the ground truth read. Ours is the whole way to the scores,
with every check of the predictions; TrackEval and the official scripts check no masks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amodal2.evaluation.image_ap import ImageTask, Rules
from amodal2.evaluation.image_predictions import check_image_predictions
from amodal2.evaluation.image_shapes import Region
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.image_json import ImageDataset, read_image_json
from amodal2.structures.video_json import VideoDataset, read_video_json
from tools.benchmarks import ytvos_peer
from tools.benchmarks.evaluation_workloads import WORKLOADS, make_images, make_videos
from tools.benchmarks.registry import Case, Peer
from tools.benchmarks.trackeval_peer import TrackEval

AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers of pycocotools in its order."""

_SHARED: dict[str, Any] = {"tolerance": 1e-9, "dtypes": (torch.float64,), "devices": ("cpu",)}


@dataclass
class Inputs:
    """One workload: parsed content of both files, and the ground truth as ours reads it."""

    truth: dict[str, Any]
    predictions: list[dict[str, Any]]
    dataset: Any
    workspace: tempfile.TemporaryDirectory


@lru_cache(maxsize=1)
def load(name: str) -> Inputs:
    """Draw a workload and read its ground truth."""
    size = WORKLOADS[name]
    truth, predictions = make_videos(size) if size.length else make_images(size)
    workspace = tempfile.TemporaryDirectory()
    file = Path(workspace.name) / "truth.json"
    file.write_text(json.dumps(truth))
    read: Callable[[Path], VideoDataset | ImageDataset]
    read = read_video_json if size.length else read_image_json
    return Inputs(truth, predictions, read(file), workspace)


def _row(stats: dict[str, float]) -> Tensor:
    return torch.tensor([stats[name] for name in AP_NAMES], dtype=torch.float64)


def our_video_ap(inputs: Inputs) -> Tensor:
    """Check and score tracks."""
    report = evaluate_video_tracks(inputs.dataset, inputs.predictions)
    return _row(report.rows["visible"].stats)


def official_video_ap(inputs: Inputs) -> Tensor:
    """Score tracks in the calls of the official script."""
    return _row(ytvos_peer.score_tracks(inputs.truth, inputs.predictions))


def our_image_ap(inputs: Inputs) -> Tensor:
    """Check and score objects."""
    records, _ = check_image_predictions(inputs.predictions, inputs.dataset)
    task = ImageTask(inputs.dataset, records, Region("amodal"), Rules())
    return _row(task.score().stats)


def as_coco_results(inputs: Inputs) -> list[dict[str, Any]]:
    """Return the predictions as COCO tools read them."""
    return [
        {"segmentation": record["amodal_segm"]}
        | {key: record[key] for key in ("image_id", "category_id", "score")}
        for record in inputs.predictions
    ]


class CocoTool:
    """A package with the interface of pycocotools; keeps the ground truth that it has loaded."""

    def __init__(self, package: str, coco: str, evaluator: str, **options: Any) -> None:
        self.package, self.coco, self.evaluator, self.options = package, coco, evaluator, options
        self._loaded: tuple[Inputs, Any, list[dict[str, Any]]] | None = None

    def __call__(self, inputs: Inputs) -> Tensor:
        """Load the predictions and score them."""
        if self._loaded is None or self._loaded[0] is not inputs:
            self._loaded = (inputs, self._load(inputs.truth), as_coco_results(inputs))
        _, truth, results = self._loaded
        with contextlib.redirect_stdout(io.StringIO()):
            # Loading writes into the records.
            found = truth.loadRes([dict(record) for record in results])
            run = self._get(self.evaluator)(truth, found, "segm", **self.options)
            run.evaluate()
            run.accumulate()
            run.summarize()
        return torch.tensor([float(value) for value in run.stats[:12]], dtype=torch.float64)

    def _load(self, truth: dict[str, Any]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = self._get(self.coco)()
            coco.dataset = deepcopy(truth)
            coco.createIndex()
        return coco

    def _get(self, path: str) -> Any:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


COCO_TOOLS = [
    CocoTool("pycocotools", "pycocotools.coco.COCO", "pycocotools.cocoeval.COCOeval"),
    CocoTool("hotcoco", "hotcoco.COCO", "hotcoco.COCOeval"),
    CocoTool(
        "faster_coco_eval",
        "faster_coco_eval.COCO",
        "faster_coco_eval.COCOeval_faster",
        extra_calc=False,
    ),
]
"""The first one is the reference."""


def our_tracking(inputs: Inputs) -> Tensor:
    """Check and score tracks."""
    report = evaluate_video_tracks(inputs.dataset, inputs.predictions, metrics=["hota"])
    scores = report.tracking["visible"].averages["all_classes_average"]
    return torch.tensor([scores[name] for name in TrackEval.NAMES], dtype=torch.float64)


def _make(name: str, device: torch.device, dtype: torch.dtype) -> Inputs:
    return load(name)


def eval_cases() -> list[Case]:
    """List the cases; what is compared with packages that are not installed is left out."""
    installed = [one for one in COCO_TOOLS if importlib.util.find_spec(one.package)]
    coco_peers = [Peer(one.package, one) for one in installed]
    official = Peer("ytvoseval calls", official_video_ap, calls=("area", "merge", "toBbox"))
    found = [
        Case("image_ap", name, partial(_make, name), our_image_ap, coco_peers, floor=1, **_SHARED)
        for name in ("W1", "W4")
    ]
    for name, floor in (("W2", 4), ("W3", 12)):
        make = partial(_make, name)
        found.append(Case("video_ap", name, make, our_video_ap, [official], floor=floor, **_SHARED))
    if importlib.util.find_spec("trackeval"):
        peer = Peer("trackeval", TrackEval())
        found.append(
            Case(
                "tracking",
                "W2",
                partial(_make, "W2"),
                our_tracking,
                [peer],
                floor=4,
                **_SHARED | {"tolerance": 1e-12},  # relative to counts of thousands
            )
        )
    return found
