"""Frames of a video file or of an image sequence: one interface, lazy, RGB uint8.

Letters: T frames, H W image. Files are decoded by PyAV (``video_file.py``), images by OpenCV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal2.utils.errors import VideoError
from amodal2.utils.frame_source import Frame, FrameSource
from amodal2.utils.video_file import VideoFile

__all__ = ["Frame", "FrameSource", "ImageSequence", "open_frames"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in "3gp avi flv gif h264 m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv".split()
)
"""Suffixes by which videos are found in a folder; a file named by itself may have any."""
FRAME_FOLDERS = ("frames", "images")
"""Names of folders that say what is in them, and not of which video."""


def folder_name(folder: str | PurePath) -> str:
    """Return the name of a video that is a folder of frames.

    A folder that is only called "frames" or "images" has the name of the one around it.

    Args:
        folder: its path.
    """
    path = PurePath(folder)
    return path.parent.name or path.name if path.name in FRAME_FOLDERS else path.name


class ImageSequence(FrameSource):
    """Frames stored as one image file each, all of the same size."""

    def __init__(self, files: Sequence[str | Path], fps: float = 25.0, name: str = "") -> None:
        """Read the first image for the size.

        Args:
            files (Sequence[str | Path]): image files in the order of time.
            fps (float): frames per second that the time stamps assume.
            name (str): for messages; default: the folder of the first image.

        Raises:
            VideoError: if there is no file or the first one is no image.
        """
        self._files = [Path(file) for file in files]
        if not self._files:
            raise VideoError(f"ImageSequence: expected at least one image, got none ({name})")
        self.name = name or str(self._files[0].parent)
        self.height, self.width = read_image(self._files[0]).shape[:2]
        self.fps = fps
        self.length = len(self._files)
        self.time_base = 1 / Fraction(fps).limit_denominator(1001)
        self.pixel_aspect = Fraction(1)

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield (frame, time stamp in seconds), see :class:`FrameSource`."""
        for index in range(len(self._files)):
            yield self._load(index), float(index * self.time_base)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Read the images at ``indices``, see :meth:`FrameSource.read`."""
        for index in indices:
            if not 0 <= index < len(self._files):
                raise IndexError(
                    f"ImageSequence.read: expected indices in [0, {len(self._files)}), "
                    f"got {index} ({self.name})"
                )
        frames = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for place, index in enumerate(indices):
            frames[place] = self._load(index)
        return frames

    def close(self) -> None:
        """Do nothing: no file stays open between two reads."""

    def _load(self, index: int) -> Frame:
        frame = read_image(self._files[index])
        if frame.shape[:2] != (self.height, self.width):
            raise VideoError(
                f"ImageSequence: expected images of {self.width}x{self.height} like the first one, "
                f"got {frame.shape[1]}x{frame.shape[0]} in {self._files[index]}; "
                "put the images of each video in a folder of their own"
            )
        return frame


def open_frames(source: str | Path | Sequence[str | Path], *, fps: float = 25.0) -> FrameSource:
    """Open a video file, a folder of images or a list of image files.

    A folder's images are taken in natural order (``2.png`` before ``10.png``). Rotation that the
    file asks for (display matrix, EXIF) is applied.

    Args:
        source (str | Path | Sequence): a video or image file, a folder, or image files in order.
        fps (float): frames per second assumed for images.

    Returns:
        FrameSource: at its beginning.

    Raises:
        VideoError: if nothing readable is there.
    """
    if not isinstance(source, str | Path):
        return ImageSequence(source, fps)
    path = Path(source)
    if path.is_dir():
        images = list_images(path)
        if not images:
            raise VideoError(f"open_frames: expected a folder with images, got none in {path}")
        return ImageSequence(images, fps, str(path))
    if not path.exists():
        raise VideoError(
            f"open_frames: expected a file or folder, got {path}, which does not exist"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSequence([path], fps, str(path))
    return VideoFile(path)


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder in natural order, hidden files left out.

    Args:
        folder (str | Path): an existing folder.

    Returns:
        list[Path]: files whose suffix is in ``IMAGE_SUFFIXES``.
    """
    files = [
        file
        for file in Path(folder).iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    return sorted(files, key=lambda file: natural_key(file.name))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that compares runs of digits as numbers.

    Args:
        name (str): a file name.

    Returns:
        list[tuple[int, str]]: comparable with the keys of other names.
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_image(path: str | Path) -> Frame:
    """Read one image file as RGB uint8, turned as its EXIF data ask.

    Args:
        path (str | Path): image file.

    Returns:
        ndarray[H, W, 3]: RGB uint8.

    Raises:
        VideoError: if the file is missing or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as e:
        raise VideoError(f"read_image: expected an image file, got {path}: {e.strerror}") from e
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise VideoError(f"read_image: expected an image, got {path}, which cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
