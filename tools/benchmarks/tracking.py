#!/usr/bin/env python
"""Time HOTA, CLEAR and identity metrics on visible masks against TrackEval.

Both sides get parsed files and run in turn in this process, on CPU time, which a busy machine
disturbs little; the table shows the fastest round and, in brackets, the median. "scores" is what
TrackEval's evaluate does (it checks no masks), "with checks" all that evaluate_video_tracks does.
TrackEval: pip install --no-deps trackeval.

Example::

    OMP_NUM_THREADS=1 python -m tools.benchmarks.tracking --workload W2
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal2.evaluation.overlaps import measure_tubes
from amodal2.evaluation.predictions import check_predictions
from amodal2.evaluation.tracking import TrackingMetrics
from amodal2.evaluation.video_cells import TrackPairing
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.video_json import VideoDataset, read_video_json
from tools.benchmarks.evaluation_workloads import VIDEO_WORKLOADS, make_videos

QUIET = (
    *("PRINT_RESULTS", "PRINT_CONFIG", "TIME_PROGRESS", "OUTPUT_SUMMARY", "OUTPUT_DETAILED"),
    *("PLOT_CURVES", "OUTPUT_EMPTY_CLASSES"),
)


def write_trackeval_files(folder: Path, truth: dict[str, Any], predictions: list[dict]) -> None:
    """Write both files as TrackEval's YouTubeVIS reads them: true masks as lists of runs."""
    tracks = [
        {**track, "segmentations": [mask and _as_runs(mask) for mask in track["segmentations"]]}
        for track in truth["annotations"]
    ]
    for name, content in (
        ("gt/youtube_vis_val/gt.json", {**truth, "annotations": tracks}),
        ("trackers/youtube_vis_val/ours/data/predictions.json", predictions),
    ):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))


def time_trackeval(folder: Path) -> tuple[dict[str, float], float]:
    """Return TrackEval's average over all classes and the CPU seconds of its evaluation."""
    import trackeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = trackeval.Evaluator(dict.fromkeys(QUIET, False))
        folders = {key: f"{folder}/{name}/" for key, name in _FOLDERS.items()}
        dataset = trackeval.datasets.YouTubeVIS(
            {**folders, "SPLIT_TO_EVAL": "val", "PRINT_CONFIG": False}
        )
        metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR()]
        metrics.append(trackeval.metrics.Identity())
        start = time.process_time()
        results, _ = evaluator.evaluate([dataset], metrics)
        seconds = time.process_time() - start
    average = results["YouTubeVIS"]["ours"]["COMBINED_SEQ"]["cls_comb_cls_av"]
    found = {
        name: float(np.mean(value))
        for metric in ("HOTA", "CLEAR", "Identity")
        for name, value in average[metric].items()
    }
    return found, seconds


def score_tracks(dataset: VideoDataset, records: list[dict[str, Any]]) -> dict[str, float]:
    """Return our average over all classes, from records that were checked before."""
    pairing = TrackPairing(
        dataset,
        records,
        measure_tubes([record["segmentations"] for record in records]),
        np.array([record["score"] for record in records]),
        dataset.annotations,
        measure_tubes([track["segmentations"] for track in dataset.annotations]),
    )
    metrics = TrackingMetrics(pairing)
    for cell in pairing.cells():
        metrics.add(cell)
    return metrics.scores().averages["all_classes_average"]


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns and its CPU seconds."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def main(argv: list[str] | None = None) -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=sorted(VIDEO_WORKLOADS), default="W2")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side runs")
    args = parser.parse_args(argv)
    truth, predictions = make_videos(VIDEO_WORKLOADS[args.workload])
    seconds: dict[str, list[float]] = {"TrackEval": [], "scores": [], "with checks": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_trackeval_files(folder, truth, predictions)
        (folder / "gt.json").write_text(json.dumps(truth))
        dataset = read_video_json(folder / "gt.json")
        records, _ = check_predictions(predictions, dataset)
        for _ in range(args.rounds):
            expected, spent = time_trackeval(folder)
            seconds["TrackEval"].append(spent)
            found, spent = timed(lambda: score_tracks(dataset, records))
            seconds["scores"].append(spent)
            _, spent = timed(lambda: evaluate_video_tracks(dataset, predictions, metrics=["hota"]))
            seconds["with checks"].append(spent)
    difference = max(abs(found[name] - expected[name]) for name in set(found) & set(expected))
    print(f"{args.workload}: HOTA {100 * found['HOTA']:.4f}, largest difference {difference:.1e}")
    for name, rounds in seconds.items():
        ratio = min(seconds["TrackEval"]) / min(rounds)
        print(f"{name:12} {min(rounds):.3f} s ({statistics.median(rounds):.3f})  {ratio:.1f} x")


_FOLDERS = {"GT_FOLDER": "gt", "TRACKERS_FOLDER": "trackers", "OUTPUT_FOLDER": "out"}


def _as_runs(mask: dict[str, Any]) -> dict[str, Any]:
    """Decompress an RLE to a list of runs, which begins with background."""
    pixels = coco_mask.decode(mask).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, pixels.size]).tolist()
    return {"size": mask["size"], "counts": [0, *runs] if pixels[0] else runs}


if __name__ == "__main__":
    main()
