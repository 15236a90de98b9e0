"""Mappers: dataset dict in, model input out; chosen by ``INPUT.AMODAL.MAPPER``."""

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, build_mapper
from amodal2.data.mappers.clip import ClipMapper
from amodal2.data.mappers.image import ImageMapper
from amodal2.data.mappers.object_patch import ObjectPatchMapper, split_objects
from amodal2.data.mappers.object_video import ObjectVideoMapper, split_video_objects

__all__ = [
    "AMODAL_MAPPER_REGISTRY",
    "ClipMapper",
    "ImageMapper",
    "ObjectPatchMapper",
    "ObjectVideoMapper",
    "build_mapper",
    "split_objects",
    "split_video_objects",
]
