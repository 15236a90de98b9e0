"""Movements of a made-up camera over a still image, which turn it into a clip.

VITA trains on such clips of COCO (Sec. 4.1 there), with a rotation of its own for every frame; here
the camera moves evenly from one random pose to another, as in a video, so that the prior masks of
A2VIS, unions over a clip, stay as large as in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_OUTSIDE = (124, 116, 104)  # mean colour of ImageNet


@dataclass(frozen=True)
class CameraMotion:
    """Poses of the frames of a clip, each applied about the centre of the image.

    Attributes:
        angles (tuple[float, ...]): rotation of each frame in degrees.
        zooms (tuple[float, ...]): magnification of each frame.
        shifts (tuple[tuple[float, float], ...]): displacement (x, y) of each frame as a share of
            width and height.
    """

    angles: tuple[float, ...]
    zooms: tuple[float, ...]
    shifts: tuple[tuple[float, float], ...]

    def apply_frame(self, frame: np.ndarray) -> np.ndarray:
        """Show an image in every pose; what lies outside of it is grey.

        Args:
            frame (ndarray[H, W, 3]): uint8 RGB.

        Returns:
            ndarray[T, H, W, 3]: uint8 RGB, resampled bilinearly.
        """
        height, width = frame.shape[:2]
        return np.stack(
            [
                cv2.warpAffine(frame, matrix, (width, height), borderValue=_OUTSIDE)
                for matrix in self._matrices(height, width)
            ]
        )

    def apply_masks(self, masks: np.ndarray) -> np.ndarray:
        """Move the masks of every frame into its pose; parts outside are lost.

        Args:
            masks (ndarray[T, N, H, W]): bool.

        Returns:
            ndarray[T, N, H, W]: bool, resampled by the nearest pixel.
        """
        height, width = masks.shape[2:]
        moved = np.empty(masks.shape, dtype=bool)
        for t, matrix in enumerate(self._matrices(height, width)):
            for n, mask in enumerate(masks[t]):
                moved[t, n] = cv2.warpAffine(
                    mask.view(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST
                )
        return moved

    def _matrices(self, height: int, width: int) -> list[np.ndarray]:
        """Maps from source to output pixels, [2, 3] each."""
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrices = []
        for angle, zoom, (x, y) in zip(self.angles, self.zooms, self.shifts, strict=True):
            matrix = cv2.getRotationMatrix2D(centre, angle, zoom)
            matrix[:, 2] += (x * width, y * height)
            matrices.append(matrix)
        return matrices


def random_camera_motion(
    rng: np.random.Generator, num_frames: int, *, rotation: float, zoom: float, shift: float
) -> CameraMotion:
    """Draw the first and the last pose of a clip, and move evenly between them.

    Args:
        rng: source of randomness.
        num_frames: T.
        rotation: largest rotation to either side in degrees.
        zoom: magnifications lie in [1 - zoom, 1 + zoom].
        shift: largest displacement along each axis as a share of the image's size.

    Returns:
        CameraMotion: the poses.
    """
    limits = np.array([rotation, zoom, shift, shift])
    first, last = rng.uniform(-limits, limits, size=(2, 4))
    share = np.linspace(0.0, 1.0, num_frames)[:, None]
    poses = first + share * (last - first)
    return CameraMotion(
        tuple(poses[:, 0].tolist()),
        tuple((1.0 + poses[:, 1]).tolist()),
        tuple((float(x), float(y)) for x, y in poses[:, 2:]),
    )
