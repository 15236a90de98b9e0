"""Chewing Gum datasets on disk: frames as PNG, exact flow and one JSON per split, or one ``.npz``.

Every video depends on the variant, the seed, its split and its index alone. The JSON is written
last; a split without one is incomplete.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodal2.data.synthetic.annotate import TrackLabels
from amodal2.data.synthetic.chewing_gum import (
    CATEGORIES,
    FRAMES,
    HEIGHT,
    VARIANTS,
    WIDTH,
    GumVideo,
    make_chewing_gum,
)
from amodal2.utils.files import atomic_write, write_json

SPLITS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class GumSpec:
    """Which videos.

    Attributes:
        variant (str): "paper" or "official".
        seed (int): of the whole dataset, not negative.
        frames (int): per video.
    """

    variant: str = "paper"
    seed: int = 0
    frames: int = FRAMES

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.variant not in VARIANTS or self.seed < 0 or self.frames < 1:
            raise ValueError(
                f"GumSpec: expected a variant of {sorted(VARIANTS)}, seed >= 0 and frames >= 1, "
                f"got {self}"
            )


def gum_video(spec: GumSpec, split: str, index: int) -> GumVideo:
    """Make one video of a dataset.

    Args:
        spec: the dataset.
        split: "train", "val" or "test".
        index: number of the video in its split, from 0.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"gum_video: expected a split in {sorted(SPLITS)}, got {split}")
    rng = np.random.default_rng([spec.seed, SPLITS[split], index])
    return make_chewing_gum(rng, spec.variant, spec.frames)


def write_gum_split(spec: GumSpec, out: str | Path, split: str, count: int) -> Path:
    """Write the videos of a split, their flow, and the JSON that lists them.

    Flow is ``flow/<video>.npz`` with ``forward`` and ``backward`` (int8 [T, H, W, 2]), named by the
    video entry's ``flow_file``; ``depth_order`` lists the annotations from the nearest.

    Args:
        spec: which videos.
        out: root folder of the dataset.
        split: "train", "val" or "test".
        count: number of videos.

    Returns:
        Path: the JSON.
    """
    root = Path(out)
    (root / "flow").mkdir(parents=True, exist_ok=True)
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        made, name = gum_video(spec, split, index), f"{split}_{index:05d}"
        np.savez_compressed(
            root / "flow" / f"{name}.npz", forward=made.forward, backward=made.backward
        )
        labels = TrackLabels([1, 1], HEIGHT, WIDTH)
        for t in range(spec.frames):
            labels.add(made.visible[:, t], made.amodal[:, t], [1 - made.bottom, made.bottom])
        tracks, order = labels.annotations()
        first = len(annotations)
        annotations += [
            {**track, "id": track["id"] + first, "video_id": index + 1} for track in tracks
        ]
        videos.append(
            {
                "id": index + 1,
                "width": WIDTH,
                "height": HEIGHT,
                "length": spec.frames,
                "file_names": _write_frames(root, name, made.images),
                "flow_file": f"flow/{name}.npz",
                "depth_order": [[number + first for number in frame] for frame in order],
            }
        )
    info = {"generator": "amodal2 chewing gum", **asdict(spec), "split": split, "videos": count}
    categories = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
    content = {"info": info, "videos": videos, "categories": categories, "annotations": annotations}
    write_json(root / f"{split}.json", content)
    return root / f"{split}.json"


def write_gum_arrays(spec: GumSpec, path: str | Path, split: str, count: int) -> None:
    """Write the videos of a split as one ``.npz`` archive.

    Arrays, N videos: ``images`` uint8 [N, T, H, W, 3], ``visible`` and ``amodal`` bool [N, 2, T, H,
    W], ``bottom`` int64 [N], ``forward`` and ``backward`` int8 [N, T, H, W, 2].

    Args:
        spec: which videos.
        path: archive to write.
        split: "train", "val" or "test".
        count: number of videos, at least 1.
    """
    made = [gum_video(spec, split, index) for index in range(count)]
    arrays = {
        name: np.stack([getattr(video, name) for video in made])
        for name in ("images", "visible", "amodal", "bottom", "forward", "backward")
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _write_frames(root: Path, name: str, images: np.ndarray) -> list[str]:
    """Write RGB frames as PNG; return their paths relative to the root."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    files = []
    for t, image in enumerate(images):
        done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        if not done:
            raise RuntimeError(f"write_gum_split: expected a PNG of frame {t}, got none")
        (folder / f"{t:05d}.png").write_bytes(data.tobytes())
        files.append(f"{name}/{t:05d}.png")
    return files
