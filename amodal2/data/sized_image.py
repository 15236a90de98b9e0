"""Reading the image of a dataset dict, which must have the size that the dict says."""

from __future__ import annotations

from typing import Any

import numpy as np

from amodal2.utils.errors import AnnotationError
from amodal2.utils.frames import read_image


def read_sized_image(dataset_dict: dict[str, Any]) -> np.ndarray:
    """Read the image of a dataset dict.

    Args:
        dataset_dict: with ``file_name``, ``height`` and ``width``.

    Returns:
        ndarray[H, W, 3]: uint8 RGB.

    Raises:
        AnnotationError: if it has another size than the dict says.
        VideoError: if it cannot be read.
    """
    image = read_image(dataset_dict["file_name"])
    height, width = image.shape[:2]
    if (height, width) != (dataset_dict["height"], dataset_dict["width"]):
        raise AnnotationError(
            f"read_sized_image: expected an image of {dataset_dict['height']} x "
            f"{dataset_dict['width']} pixels (height x width), got {height} x {width}",
            file=dataset_dict["file_name"],
            image_id=dataset_dict.get("image_id"),
        )
    return image
