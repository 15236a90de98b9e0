"""Mappers: dataset dict in, model input out; chosen by ``INPUT.AMODAL.MAPPER``."""

from amodal2.data.mappers.base import AMODAL_MAPPER_REGISTRY, build_mapper
from amodal2.data.mappers.clip import ClipMapper
from amodal2.data.mappers.image import ImageMapper

__all__ = ["AMODAL_MAPPER_REGISTRY", "ClipMapper", "ImageMapper", "build_mapper"]
