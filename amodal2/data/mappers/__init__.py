"""Mappers: dataset dict in, model input out; chosen by ``INPUT.AMODAL.MAPPER``."""

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, build_mapper
from amodal2.data.mappers.clip import ClipMapper
from amodal2.data.mappers.copy_paste import CopyPasteMapper
from amodal2.data.mappers.eraser_patch import EraserPatchMapper
from amodal2.data.mappers.image import ImageMapper
from amodal2.data.mappers.object_clip import ObjectClipMapper, split_tracks
from amodal2.data.mappers.object_patch import ObjectPatchMapper, split_objects
from amodal2.data.mappers.object_track import ObjectTrackMapper
from amodal2.data.mappers.object_video import ObjectVideoMapper, split_video_objects
from amodal2.data.mappers.transfer_pairs import TransferPairMapper

__all__ = [
    "AMODAL_MAPPER_REGISTRY",
    "ClipMapper",
    "CopyPasteMapper",
    "EraserPatchMapper",
    "ImageMapper",
    "ObjectClipMapper",
    "ObjectPatchMapper",
    "ObjectTrackMapper",
    "ObjectVideoMapper",
    "TransferPairMapper",
    "build_mapper",
    "split_objects",
    "split_tracks",
    "split_video_objects",
]
