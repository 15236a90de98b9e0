"""The raw SAIL-VOS, as its download unpacks and public loaders of it read it.

The expected tree of a split::

    <clip>/images/000000.bmp          frames
    <clip>/visible/000000.npy         [H, W], the number of the object that is seen, 0 for none
    <clip>/<number>_<name>/000000.png the object rendered alone: above 0 is its amodal mask

The layout was put together from the code of public projects that load it (two of them agree on
these names) and has not been run on the data. Images may be JPEG or PNG, and maps ``.npz``, as
projects store them that save space.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from amodal2.data.importers.sailvos import CLASS_AGNOSTIC
from amodal2.data.importers.video_import import SourceVideo
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import list_images

_OBJECT = re.compile(r"(?P<number>\d+)(_(?P<name>.*))?")
_LETTERS = re.compile(r"[A-Za-z](?:[A-Za-z_]*[A-Za-z])?")


def read_sailvos_raw(
    split: str | Path, base: str | Path, report: Counter[str], *, folder_classes: bool = False
) -> Iterator[SourceVideo]:
    """Read the clips of one split.

    Args:
        split: folder of the clips.
        base: folder that the frame paths will be relative to.
        report: receives what is counted and left out.
        folder_classes: the letters in the name of an object's folder are its category; otherwise
            all are "object". The release names models there, which are not its 162 classes.

    Yields:
        SourceVideo: in the order of the names of the clips.

    Raises:
        FileNotFoundError: if there is no clip.
        AnnotationError: naming a map or mask that is missing, cannot be read or is of another size.
    """
    clips = sorted({path.parent for path in Path(split).glob("*/visible") if path.is_dir()})
    if not clips:
        raise FileNotFoundError(
            f"read_sailvos_raw: expected {split}/<clip>/visible/000000.npy and so on, got none"
        )
    for clip in clips:
        report["clips"] += 1
        yield _read_clip(clip, Path(base), report, folder_classes)


def _read_clip(clip: Path, base: Path, report: Counter[str], folder_classes: bool) -> SourceVideo:
    frames = list_images(clip / "images") if (clip / "images").is_dir() else []
    if not frames:
        raise AnnotationError(
            "read_sailvos_raw: expected frames in images/ beside visible/, got none", file=clip
        )
    folders = {
        path: match
        for path in sorted(clip.iterdir())
        if path.is_dir() and (match := _OBJECT.fullmatch(path.name))
    }
    names = [Path(os.path.relpath(path, base)).as_posix() for path in frames]
    video = SourceVideo(clip.name, 0, 0, names)
    numbers: set[int] = set()
    for t, frame in enumerate(frames):
        seen = _read_map(clip / "visible", frame.stem)
        video.height, video.width = seen.shape
        numbers |= set(np.unique(seen).tolist()) - {0}
        for folder, match in folders.items():
            path = folder / f"{frame.stem}.png"
            if not path.is_file():
                continue
            letters = _LETTERS.search(match["name"] or "")
            category = letters[0] if folder_classes and letters else CLASS_AGNOSTIC
            masks = video.masks(int(match["number"]), category, t)
            masks.amodal = encode_mask(_read_mask(path, seen.shape))
            masks.visible = encode_mask(seen == int(match["number"]))
    report["objects left out, seen but not rendered alone"] += len(numbers - set(video.tracks))
    return video


def _read_map(folder: Path, stem: str) -> np.ndarray:
    path = next((p for p in (folder / f"{stem}.npy", folder / f"{stem}.npz") if p.is_file()), None)
    if path is None:
        raise AnnotationError(
            f"read_sailvos_raw: expected visible/{stem}.npy for every frame, got none", file=folder
        )
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            (content,) = content.values()
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"read_sailvos_raw: expected one array of NumPy, got {error}", file=path
        ) from error
    if content.ndim != 2 or content.dtype.kind not in "iu":
        raise AnnotationError(
            f"read_sailvos_raw: expected integers [H, W], got {content.dtype} of shape "
            f"{content.shape}",
            file=path,
        )
    return np.asarray(content)


def _read_mask(path: Path, size: tuple[int, ...]) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != size:
        got = "none" if image is None else f"one of {image.shape}"
        raise AnnotationError(
            f"read_sailvos_raw: expected a mask of {size} (H, W), got {got}", file=path
        )
    return np.asarray(image > 0)
