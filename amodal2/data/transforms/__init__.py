"""Transforms that move frames, visible masks and amodal masks of a sample together."""

from amodal2.data.transforms.camera import CameraMotion, random_camera_motion
from amodal2.data.transforms.color import ColorChange, random_color_change
from amodal2.data.transforms.geometry import (
    ClipGeometry,
    GeometrySampler,
    shortest_edge_size,
)
from amodal2.data.transforms.mask_noise import MaskNoise, mask_noise
from amodal2.data.transforms.masks import decode_masks, first_visible_frames, mask_boxes

__all__ = [
    "CameraMotion",
    "ClipGeometry",
    "ColorChange",
    "GeometrySampler",
    "MaskNoise",
    "decode_masks",
    "first_visible_frames",
    "mask_boxes",
    "mask_noise",
    "random_camera_motion",
    "random_color_change",
    "shortest_edge_size",
]
