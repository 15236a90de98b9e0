"""Datasets of rendered scenes on disk: frames or videos, flow, depth and one JSON per split.

Every video depends on the seed, its split and its index alone, so neither the number of videos nor
the number of processes changes it. The JSON is written last; a split without one is incomplete.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.annotate import TrackLabels
from amodal2.data.synthetic.aquarium import CATEGORIES, build_aquarium
from amodal2.data.synthetic.choreography import DENSE
from amodal2.data.synthetic.playroom import build_playroom
from amodal2.data.synthetic.ray_render import render_playroom
from amodal2.data.synthetic.render import Frame, render_frame
from amodal2.data.synthetic.split_files import SPLITS, encode_png, run_tasks, start_split
from amodal2.data.synthetic.statistics import measure_dataset
from amodal2.data.synthetic.toys import CATEGORIES as TOY_CATEGORIES
from amodal2.utils.files import atomic_write, write_json

logger = logging.getLogger(__name__)

VERSION = 2
"""Changes whenever the same seed gives other files than before."""

_X264_PARAMS = "threads=1:lookahead-threads=1:sliced-threads=0:sync-lookahead=0:cpu-independent=1"


@dataclass(frozen=True)
class SceneKind:
    """A kind of scene that can be written.

    Attributes:
        build (Callable): (rng, frames, height, width) to a scene that has ``category_ids`` of its
            objects.
        categories (dict[int, str]): category id to name.
        render (Callable): (scene, frame, height, width, flow=...) to a frame of it.
        depth (bool): its frames have depth.
    """

    build: Callable[[np.random.Generator, int, int, int], Any]
    categories: dict[int, str]
    render: Callable[..., Frame] = render_frame
    depth: bool = False


SCENES: dict[str, SceneKind] = {
    "aquarium": SceneKind(build_aquarium, CATEGORIES),
    "aquarium_dense": SceneKind(partial(build_aquarium, crowding=DENSE), CATEGORIES),
    "playroom": SceneKind(build_playroom, TOY_CATEGORIES, render_playroom, depth=True),
}
"""Every scene by name."""


@dataclass(frozen=True)
class DatasetSpec:
    """What to write; together with a split and an index it fixes every byte of a video.

    Attributes:
        scene (str): key of ``SCENES``.
        seed (int): of the whole dataset, not negative.
        width (int): columns in pixels.
        height (int): rows in pixels.
        frames (int): per video, 1..128.
        format (str): "mp4" (one H.264 file per video) or "png" (a folder of frames per video).
        flow (bool): also write optical flow.
        fps (int): frames per second of the videos.
        depth (bool): also write depth, of a scene that has it.
    """

    scene: str = "aquarium"
    seed: int = 0
    width: int = 480
    height: int = 320
    frames: int = 64
    format: str = "mp4"
    flow: bool = False
    fps: int = 15
    depth: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        with_depth = sorted(name for name, kind in SCENES.items() if kind.depth)
        checks = (
            (self.scene in SCENES, f"scene in {sorted(SCENES)}", self.scene),
            (not self.depth or self.scene in with_depth, f"depth of {with_depth}", self.scene),
            (self.seed >= 0, "seed >= 0", self.seed),
            (1 <= self.frames <= 128, "frames in 1..128", self.frames),
            (self.format in ("mp4", "png"), "format 'mp4' or 'png'", self.format),
            (self.fps >= 1, "fps >= 1", self.fps),
            (
                self.format == "png" or (self.width % 2 == 0 and self.height % 2 == 0),
                "an even width and height for mp4",
                f"{self.width}x{self.height}; use format png",
            ),
        )
        for good, expected, got in checks:
            if not good:
                raise ValueError(f"DatasetSpec: expected {expected}, got {got}")


def build_scene(spec: DatasetSpec, split: str, index: int) -> Any:
    """Make up one video of a dataset.

    Args:
        spec (DatasetSpec): the dataset.
        split (str): "train" or "val".
        index (int): number of the video in its split, from 0.

    Returns:
        Any: the scene, ready to render.

    Raises:
        MissingDependencyError: if the scene needs an optional library that is not installed.
        ValueError: if there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"build_scene: expected a split in {sorted(SPLITS)}, got {split}")
    rng = np.random.default_rng([spec.seed, SPLITS[split], index])
    return SCENES[spec.scene].build(rng, spec.frames, spec.height, spec.width)


def write_split(
    spec: DatasetSpec,
    out: str | Path,
    split: str,
    count: int,
    *,
    workers: int = 1,
    force: bool = False,
) -> Path:
    """Render the videos of one split and write its JSON.

    A split that is there already with the same parameters is left as it is.

    Args:
        spec (DatasetSpec): what to render.
        out (str | Path): root folder of the dataset.
        split (str): "train" or "val".
        count (int): number of videos.
        workers (int): processes; 1 renders in this one.
        force (bool): replace a split with other parameters.

    Returns:
        Path: the JSON.

    Raises:
        FileExistsError: if the split exists with other parameters and ``force`` is off.
        MissingDependencyError: if the scene needs an optional library that is not installed.
        ValueError: if ``count`` or ``workers`` is out of range.
    """
    if count < 0 or workers < 1:
        raise ValueError(
            f"write_split: expected count >= 0 and workers >= 1, got {count} and {workers}"
        )
    root = Path(out)
    target = root / f"{split}.json"
    info = {"generator": "amodal2 synthetic", "version": VERSION, **asdict(spec)}
    info |= {"split": split, "videos": count}
    if not spec.depth:
        del info["depth"]  # as in datasets that were made before there was depth
    if not start_split(root, split, info, force=force):
        return target
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    tasks = [(spec, str(root), split, index) for index in range(count)]
    for video, tracks in run_tasks(_write_video, tasks, workers):
        offset, video["id"] = len(annotations), len(videos) + 1
        for track in tracks:
            track["id"] += offset
            annotations.append({"id": track.pop("id"), "video_id": video["id"], **track})
        video["depth_order"] = [[i + offset for i in order] for order in video["depth_order"]]
        videos.append({"id": video.pop("id"), **video})
        if len(videos) % 50 == 0:
            logger.info("%s: %d of %d videos", split, len(videos), count)
    categories = [
        {"id": key, "name": name, "supercategory": spec.scene}
        for key, name in SCENES[spec.scene].categories.items()
    ]
    content = {"info": info, "videos": videos, "categories": categories, "annotations": annotations}
    write_json(target, content)
    logger.info("%s: %s", target, measure_dataset(content))
    return target


_Task = tuple[DatasetSpec, str, str, int]
_Result = tuple[dict[str, Any], list[dict[str, Any]]]


def _write_video(task: _Task) -> _Result:
    """Render one video to disk; return its entry and its tracks, both with ids of their own."""
    spec, out, split, index = task
    root, name = Path(out), f"{split}_{index:05d}"
    scene = build_scene(spec, split, index)
    labels = TrackLabels(scene.category_ids, spec.height, spec.width)
    flows: list[npt.NDArray[np.floating]] = []
    depths: list[npt.NDArray[np.floating]] = []

    def images() -> Iterator[npt.NDArray[np.uint8]]:
        for t in range(spec.frames):
            with_flow = spec.flow and t + 1 < spec.frames
            render = SCENES[spec.scene].render
            frame = render(scene, t, spec.height, spec.width, flow=with_flow)
            labels.add(frame.visible, frame.amodal, frame.order)
            if frame.flow is not None:
                flows.append(frame.flow.astype(np.float16))
            if spec.depth and frame.depth is not None:
                depths.append(frame.depth)
            yield frame.image

    video: dict[str, Any] = {
        "width": spec.width,
        "height": spec.height,
        "length": spec.frames,
        "fps": spec.fps,
    }
    if spec.format == "png":
        video["file_names"] = _write_images(root / name, images())
    else:
        video["file_name"] = f"{name}.mp4"
        _write_mp4(root / f"{name}.mp4", images(), spec)
    if spec.flow:
        video["flow_files"] = [*_write_fields(root, "flow", name, flows), None]
    if spec.depth:
        video["depth_files"] = _write_fields(root, "depth", name, depths)
    tracks, video["depth_order"] = labels.annotations()
    return video, tracks


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_images(folder: Path, images: Iterator[npt.NDArray[np.uint8]]) -> list[str]:
    """Write RGB frames as PNG; return their paths relative to the folder's parent."""
    names = []
    with _atomic_folder(folder) as temporary:
        for t, image in enumerate(images):
            (temporary / f"{t:05d}.png").write_bytes(encode_png(image))
            names.append(f"{folder.name}/{t:05d}.png")
    return names


def _write_fields(
    root: Path, kind: str, video: str, fields: list[npt.NDArray[np.floating]]
) -> list[str]:
    """Write "flow" or "depth", one archive per frame; return paths relative to ``root``."""
    names = []
    with _atomic_folder(root / kind / video) as temporary:
        for t, field in enumerate(fields):
            arrays: dict[str, Any] = {kind: field}
            np.savez_compressed(temporary / f"{t:05d}.npz", **arrays)
            names.append(f"{kind}/{video}/{t:05d}.npz")
    return names


def _write_mp4(path: Path, images: Iterator[npt.NDArray[np.uint8]], spec: DatasetSpec) -> None:
    """Encode RGB frames as H.264 with settings that give the same bytes every time.

    By default x264 chooses algorithms by the processor, and its vector code for the macroblock tree
    reads memory that nothing was written to; ``cpu-independent`` takes the plain code instead.
    """
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=spec.fps)
        stream.width, stream.height = spec.width, spec.height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 12
        stream.options = {"crf": "16", "preset": "medium", "x264-params": _X264_PARAMS}
        for t, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(_to_yuv420(image), format="yuv420p")
            frame.pts, frame.time_base = t, Fraction(1, spec.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _to_yuv420(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert RGB [H, W, 3] to planes [3 / 2 H, W] in whole numbers, the same on every processor.

    OpenCV takes the colour of each 2x2 block from one pixel, so it gets the blocks' means.
    """
    height, width = image.shape[:2]
    means = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    blocks = np.repeat(np.repeat(means, 2, axis=0), 2, axis=1)
    planes = cv2.cvtColor(blocks, cv2.COLOR_RGB2YUV_I420)
    planes[:height] = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)[:height]
    return np.asarray(planes, np.uint8)
