"""HOTA, CLEAR and identity metrics of visible masks by TrackEval, to compare with.

pip install --no-deps trackeval.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

_QUIET = (
    *("PRINT_RESULTS", "PRINT_CONFIG", "TIME_PROGRESS", "OUTPUT_SUMMARY", "OUTPUT_DETAILED"),
    *("PLOT_CURVES", "OUTPUT_EMPTY_CLASSES"),
)
_FOLDERS = {"GT_FOLDER": "gt", "TRACKERS_FOLDER": "trackers", "OUTPUT_FOLDER": "out"}


class TrackEval:
    """Scores a workload; keeps the files that it has written and read."""

    NAMES = (
        *("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "HOTA(0)", "LocA(0)"),
        *("MOTA", "MOTP", "IDF1", "IDR", "IDP", "CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "Frag"),
        *("MT", "PT", "ML", "IDTP", "IDFN", "IDFP"),
    )
    """What it is asked for: averages over all classes."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, Any, tempfile.TemporaryDirectory] | None = None

    def __call__(self, inputs: Any) -> Tensor:
        """Score the predictions of ``inputs`` (``truth`` and ``predictions``)."""
        import trackeval

        with contextlib.redirect_stdout(io.StringIO()):
            if self._loaded is None or self._loaded[0] is not inputs:
                workspace = tempfile.TemporaryDirectory()
                self._loaded = (inputs, _read(workspace.name, inputs), workspace)
            metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR()]
            metrics.append(trackeval.metrics.Identity())
            evaluator = trackeval.Evaluator(dict.fromkeys(_QUIET, False))
            results, _ = evaluator.evaluate([self._loaded[1]], metrics)
        average = results["YouTubeVIS"]["ours"]["COMBINED_SEQ"]["cls_comb_cls_av"]
        found: dict[str, Any] = {}
        for metric in ("HOTA", "CLEAR", "Identity"):
            found |= average[metric]
        values = [float(np.mean(found[name])) for name in self.NAMES]
        return torch.tensor(values, dtype=torch.float64)


def _read(folder: str, inputs: Any) -> Any:
    """Write both files as TrackEval's YouTubeVIS reads them, true masks as lists of runs."""
    import trackeval

    tracks = [
        {**track, "segmentations": [mask and _as_runs(mask) for mask in track["segmentations"]]}
        for track in inputs.truth["annotations"]
    ]
    for name, content in (
        ("gt/youtube_vis_val/gt.json", {**inputs.truth, "annotations": tracks}),
        ("trackers/youtube_vis_val/ours/data/predictions.json", inputs.predictions),
    ):
        path = Path(folder) / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    folders = {key: f"{folder}/{name}/" for key, name in _FOLDERS.items()}
    return trackeval.datasets.YouTubeVIS({**folders, "SPLIT_TO_EVAL": "val", "PRINT_CONFIG": False})


def _as_runs(mask: dict[str, Any]) -> dict[str, Any]:
    """Decompress an RLE to a list of runs, which begins with background."""
    pixels = coco_mask.decode(mask).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, pixels.size]).tolist()
    return {"size": mask["size"], "counts": [0, *runs] if pixels[0] else runs}
