"""Where pseudo-depth comes from: functions of a frame and its number.

Depth is relative and inverse: larger is nearer. Dimensions: N objects, H W frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]  # [H, W]

SUFFIXES = (".npy", ".npz", ".png", ".tif", ".tiff")


class DepthSource(ABC):
    """Gives the depth of a frame."""

    @abstractmethod
    def __call__(self, frame: NDArray[np.uint8], index: int) -> FloatImage:
        """Return the depth of a frame.

        Args:
            frame (ndarray[H, W, 3]): RGB.
            index: its number in the video, from 0.

        Returns:
            ndarray[H, W]: float32, larger is nearer.

        Raises:
            ValueError: if there is none of this size.
        """


class DepthFiles(DepthSource):
    """Depth that was computed before: a folder with a file per frame, or one array of them all."""

    def __init__(self, path: str | Path, *, larger_is_nearer: bool = True) -> None:
        """Find the files.

        Args:
            path: a folder of .npy, .npz (the first array), .png or .tif files in the order of the
                frames, or one .npy or .npz file with an array [T, H, W].
            larger_is_nearer: False for metric depth, which is negated.

        Raises:
            ValueError: if there is no such file, or it is no array of frames.
        """
        self.path = Path(path)
        self._sign = 1.0 if larger_is_nearer else -1.0
        self._array: np.ndarray | None = None
        self._files: list[Path] = []
        if self.path.is_dir():
            self._files = sorted(p for p in self.path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif self.path.is_file():
            self._array = _read(self.path)
            if self._array.ndim != 3:
                raise ValueError(
                    f"DepthFiles: expected an array [T, H, W] in {self.path}, got shape "
                    f"{self._array.shape}"
                )
        if self._array is None and not self._files:
            raise ValueError(
                f"DepthFiles: expected a folder of {', '.join(SUFFIXES)} files or an array of "
                f"frames, got {self.path}"
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._files) if self._array is None else len(self._array)

    def __call__(self, frame: NDArray[np.uint8], index: int) -> FloatImage:
        """Read the depth of a frame, see :class:`DepthSource`."""
        if index >= len(self):
            raise ValueError(
                f"DepthFiles: expected depth of frame {index}, got {len(self)} frames in "
                f"{self.path}"
            )
        depth = _read(self._files[index]) if self._array is None else self._array[index]
        if depth.shape != frame.shape[:2] or not np.isfinite(depth).all():
            raise ValueError(
                f"DepthFiles: expected finite depth {frame.shape[:2]} like frame {index} in "
                f"{self.path}, got shape {depth.shape} with values from {depth.min()} to "
                f"{depth.max()}"
            )
        return np.float32(self._sign) * depth.astype(np.float32)


def layered_depth(masks: NDArray[np.bool_], count: int) -> FloatImage:
    """Make a depth map of objects whose order is known.

    Args:
        masks (ndarray[N, H, W]): bool, visible masks from the nearest to the farthest object.
        count: objects of the whole video, at least N; it sets the scale.

    Returns:
        ndarray[H, W]: float32 in [0, 1]: 1 for the nearest object, 1 / count less for each next
        one, 0 for the background.
    """
    depth = np.zeros(masks.shape[1:], np.float32)
    for place in reversed(range(len(masks))):
        depth[masks[place]] = 1 - place / max(count, 1)
    return depth


def _read(path: Path) -> np.ndarray:
    """Read one file.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        if path.suffix.lower() in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            return loaded[loaded.files[0]] if path.suffix.lower() == ".npz" else loaded
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, IndexError, EOFError, cv2.error) as e:
        raise ValueError(f"DepthFiles: expected an array in {path}, got {e}") from e
    if image is None or image.ndim != 2:
        found = "none that can be read" if image is None else f"{image.shape[2]} channels"
        raise ValueError(f"DepthFiles: expected a grey image in {path}, got {found}")
    return image
