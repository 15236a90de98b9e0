"""Data types that pass between the parts of the project.

``fields`` names the ``Instances`` fields, ``rle`` holds encoded masks, ``track`` the predicted
tracks of a video, ``video_json`` the ground truth of a video dataset.
"""

from amodal2.structures.rle import (
    RLE,
    decode_rle,
    encode_mask,
    encode_masks,
    polygons_to_rle,
    rle_area,
    rle_box,
    to_rle,
    validate_rle,
)
from amodal2.structures.track import MaskTube, Track, VideoPrediction

__all__ = [
    "RLE",
    "MaskTube",
    "Track",
    "VideoPrediction",
    "decode_rle",
    "encode_mask",
    "encode_masks",
    "polygons_to_rle",
    "rle_area",
    "rle_box",
    "to_rle",
    "validate_rle",
]
