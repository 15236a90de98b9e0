"""Registry of mappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from fvcore.common.registry import Registry

Mapper = Callable[..., dict[str, Any]]

AMODAL_MAPPER_REGISTRY = Registry("AMODAL_MAPPER")
AMODAL_MAPPER_REGISTRY.__doc__ = """
Classes that turn a dataset dict into a model input.

Built as ``cls(cfg, is_train=...)`` and called as ``mapper(dataset_dict, sample_seed=0) -> dict``.
``sample_seed`` is the only source of randomness: the same dict and seed give the same output in
every process. Mappers must be picklable and must not change the dataset dict.
"""


def build_mapper(cfg: CfgNode, *, is_train: bool) -> Mapper:
    """Build the mapper that ``INPUT.AMODAL.MAPPER`` names.

    Args:
        cfg: configuration.
        is_train: training samples or whole test videos.

    Returns:
        Mapper: called as ``mapper(dataset_dict, sample_seed=0)``.
    """
    return AMODAL_MAPPER_REGISTRY.get(cfg.INPUT.AMODAL.MAPPER)(cfg, is_train=is_train)
