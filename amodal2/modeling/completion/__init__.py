"""Completion of given visible masks, whoever made them.

``base.py`` has the interface and the registry, ``crops.py`` cuts out and pastes back, ``video.py``
runs whole videos in bounded memory, with ``frame_window.py`` for what is read, ``baselines.py`` has
completers without training, ``unet.py`` the supervised image-level one, ``pcnet.py`` the
self-supervised one. ``track_batch.py`` and
``samples.py`` are for training and testing. Optical flow comes from
:mod:`amodal2.utils.optical_flow`.
"""

from amodal2.modeling.completion import baselines, pcnet, unet
from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    Completer,
    Completion,
    ObjectClip,
    build_completer,
)
from amodal2.modeling.completion.crops import CropRule
from amodal2.modeling.completion.video import CompletionSettings, complete_video

__all__ = [
    "COMPLETER_REGISTRY",
    "Completer",
    "Completion",
    "CompletionSettings",
    "CropRule",
    "ObjectClip",
    "baselines",
    "build_completer",
    "complete_video",
    "pcnet",
    "unet",
]
