"""Registry of mappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from fvcore.common.registry import Registry

Mapper = Callable[..., dict[str, Any]]

AMODAL_MAPPER_REGISTRY = Registry("AMODAL_MAPPER")
AMODAL_MAPPER_REGISTRY.__doc__ = """
Classes that turn a dataset dict into a model input.

Built as ``cls(cfg, is_train=...)`` and called as ``mapper(dataset_dict, sample_seed=0) -> dict``.
``sample_seed`` is the only source of randomness: the same dict and seed give the same output in
every process. Mappers must be picklable and must not change the dataset dict.

A class whose sample is a part of a dataset dict has a static method ``expand_dicts(dicts)`` that
returns one dict per sample; the loaders call it first. Without it a dict is a sample.
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


def expand_dicts(cfg: CfgNode, dataset_dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn dataset dicts into one dict per sample of the mapper that the configuration names.

    Args:
        cfg: configuration.
        dataset_dicts: one per video or image; not changed.

    Returns:
        list[dict]: what the mapper's ``expand_dicts`` makes of them; without one, the same list.
    """
    mapper = AMODAL_MAPPER_REGISTRY.get(cfg.INPUT.AMODAL.MAPPER)
    expand = getattr(mapper, "expand_dicts", None)
    return dataset_dicts if expand is None else expand(dataset_dicts)


def sample_generator(sample_seed: int | None) -> np.random.Generator:
    """Return the generator of a sample's random choices.

    Args:
        sample_seed: its seed; None draws one from NumPy's global generator, which Detectron2's
            loaders seed in every worker.
    """
    if sample_seed is None:
        sample_seed = np.random.randint(2**31)  # noqa: NPY002, seeded per worker
    return np.random.default_rng(sample_seed)
