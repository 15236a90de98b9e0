"""Mappers: dataset dict in, model input out; chosen by ``INPUT.AMODAL.MAPPER``."""

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, build_mapper
from amodal2.data.mappers.clip import ClipMapper
from amodal2.data.mappers.eraser_patch import EraserPatchMapper
from amodal2.data.mappers.image import ImageMapper
from amodal2.data.mappers.object_patch import ObjectPatchMapper, split_objects
from amodal2.data.mappers.object_track import ObjectTrackMapper

__all__ = [
    "AMODAL_MAPPER_REGISTRY",
    "ClipMapper",
    "EraserPatchMapper",
    "ImageMapper",
    "ObjectPatchMapper",
    "ObjectTrackMapper",
    "build_mapper",
    "split_objects",
]
