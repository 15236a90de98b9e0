#!/usr/bin/env python
"""Measure the demo's peak memory on a short and on a long video of 854x480 at 25 frames/s.

    python tests/video/measure_memory.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml
    python tests/video/measure_memory.py --seconds 10 600      (a trivial model, minutes not hours)
    python tests/video/measure_memory.py --seconds 1.2 120 --live      (the same file as a stream)

Prints the peak resident memory of each run; fails if the last exceeds the first by over 5 %.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from amodal2.video.reader import LiveInput, find_inputs  # noqa: E402
from amodal2.video.run import process_video  # noqa: E402
from amodal2.video.run_live import process_stream  # noqa: E402
from amodal2.video.streaming import PredictorSettings  # noqa: E402
from amodal2.video.writer import VideoWriter  # noqa: E402
from tests.utils.sample_videos import BLUE, GREEN, RED  # noqa: E402
from tests.video.colour_model import CATEGORY_NAMES, ColourModel  # noqa: E402

HEIGHT, WIDTH, FPS = 480, 854, 25


def make_scene(path: Path, seconds: float) -> None:
    """Write a video of three ellipses that cross each other."""
    with VideoWriter(path, HEIGHT, WIDTH, fps=FPS, preset="ultrafast") as writer:
        for index in range(round(seconds * FPS)):
            frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
            for number, color in enumerate((RED, GREEN, BLUE)):
                angle = index / FPS * (0.4 + 0.3 * number)
                x, y = 427 + 300 * np.cos(angle), 240 + 120 * np.sin(1.7 * angle + number)
                box = ((float(x), float(y)), (180.0, 110.0), float(np.degrees(angle)))
                cv2.ellipse(frame, box, color, -1)
            writer.write(frame, index / FPS)


def run_colours(video: str, output: str) -> None:
    """Run the demo with a model of colours in this process; ``file:`` names a stream."""
    (source,), _ = find_inputs([video])
    settings = PredictorSettings(
        short_edge=160, score_threshold=0.3, category_ids=list(CATEGORY_NAMES), spool_dir=output
    )
    bar = type("Bar", (), {"update": lambda self: None})()
    common = (ColourModel(), settings, output, CATEGORY_NAMES)
    if isinstance(source, LiveInput):
        with source.open() as stream:
            process_stream(stream, *common, progress=lambda title, total: nullcontext(bar))
    else:
        process_video(source, *common, progress=lambda title, total: nullcontext(bar))


def peak_of(command: list[str]) -> tuple[float, float]:
    """Run a program; return its peak memory in MB and its processor time in seconds."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"peak_of: expected success, got status {status} of {command}")
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main() -> int:
    """Measure; the status is 0 if memory is flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", help="model; without it a trivial one is used")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 600])
    parser.add_argument("--opts", nargs="+", default=[], help="options of the model's demo")
    parser.add_argument("--live", action="store_true", help="as a stream, without keeping masks")
    parser.add_argument("--run-colours", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run_colours:
        run_colours(*args.run_colours)
        return 0
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in args.seconds:
            video, output = Path(folder) / "in.mp4", Path(folder) / "out"
            output.mkdir(exist_ok=True)
            make_scene(video, seconds)
            named = f"file:{video}" if args.live else str(video)
            command = [sys.executable, __file__, "--run-colours", named, str(output)]
            if args.config_file:
                tool = str(REPOSITORY / "tools" / "video_demo.py")
                command = [sys.executable, tool, "--config-file", args.config_file]
                command += ["--input", named, "--output", str(output)]
                command += ["--opts", *args.opts] if args.opts else []
            begin = time.perf_counter()
            peak, processor = peak_of(command)
            peaks.append(peak)
            wall = time.perf_counter() - begin
            (tracks,) = output.glob("tracks.json*")
            size = tracks.stat().st_size / 1e6
            sys.stdout.write(
                f"{seconds:g} s video: peak {peak:.1f} MB, {wall:.0f} s ({processor:.0f} s of "
                f"processor time), {tracks.name} {size:.1f} MB\n"
            )
            sys.stdout.flush()
    growth = peaks[-1] / peaks[0] - 1
    sys.stdout.write(f"growth {growth:+.1%}\n")
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
