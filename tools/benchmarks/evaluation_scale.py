#!/usr/bin/env python
"""Measure the processor time and memory that tools/evaluate.py needs for many videos.

Each video has 128 frames of 320x480 pixels, 10 true and 100 predicted tracks of one class, drawn as
the workload W3 is, but so slow that they stay in the frame; a few videos are drawn and repeated
under new ids. The command runs in a process of its own and one thread, from reading both files to
the printed table.

Example::

    python -m tools.benchmarks.evaluation_scale --videos 100
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.benchmarks.evaluation_workloads import Workload, make_videos

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"length": 128, "classes": 1, "truth": 10, "predicted": 100, "perturbed": 30, "speed": 1}


def repeat(entries: list[dict[str, Any]], key: str, drawn: int, videos: int) -> Iterator[str]:
    """Yield the JSON texts of the entries of all videos; ``key`` names the video of an entry."""
    texts: dict[int, list[str]] = {}
    for entry in entries:
        others = {name: value for name, value in entry.items() if name not in (key, "id")}
        texts.setdefault(entry[key], []).append(json.dumps(others))
    number = 0
    for video in range(videos):
        for text in texts[1 + video % drawn]:
            number += 1
            ids = {"id": number} | {key: video + 1}
            yield json.dumps(ids)[:-1] + ", " + text[1:]


def write_files(folder: Path, videos: int, drawn: int) -> None:
    """Write ``truth.json`` and ``predictions.json``."""
    truth, predictions = make_videos(Workload(videos=drawn, **SIZE))
    with (folder / "truth.json").open("w") as file:
        file.write(f'{{"categories": {json.dumps(truth["categories"])}')
        for name, key in (("videos", "id"), ("annotations", "video_id")):
            file.write(f', "{name}": [')
            for i, text in enumerate(repeat(truth[name], key, drawn, videos)):
                file.write((", " if i else "") + text)
            file.write("]")
        file.write("}")
    with (folder / "predictions.json").open("w") as file:
        for i, text in enumerate(repeat(predictions, "video_id", drawn, videos)):
            file.write(("," if i else "[") + text)
        file.write("]")


def main(argv: list[str] | None = None) -> None:
    """Draw, evaluate and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--drawn", type=int, default=10, help="different ones among them")
    parser.add_argument("--metrics", default="ap", help="as of tools/evaluate.py")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, args.videos, min(args.drawn, args.videos))
        files = ["--gt", str(folder / "truth.json"), "--pred", str(folder / "predictions.json")]
        command = [sys.executable, str(ROOT / "tools/evaluate.py"), *files]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, "--metrics", args.metrics], env=environment, check=True)
        size = (folder / "predictions.json").stat().st_size
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(
        f"{args.videos} videos, {size / 1e9:.2f} GB of predictions: {used.ru_utime:.1f} s + "
        f"{used.ru_stime:.1f} s of the system, {used.ru_maxrss * 1024 / 1e9:.2f} GB at the peak\n"
    )


if __name__ == "__main__":
    main()
