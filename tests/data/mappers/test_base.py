"""The registry of mappers."""

import pytest

from amodal2.config import get_cfg
from amodal2.data.mappers import AMODAL_MAPPER_REGISTRY, ClipMapper, build_mapper


def test_build_mapper_default_is_the_clip_mapper():
    mapper = build_mapper(get_cfg(), is_train=True)
    assert isinstance(mapper, ClipMapper)
    assert mapper.is_train


def test_build_mapper_unknown_name_raises():
    cfg = get_cfg()
    cfg.INPUT.AMODAL.MAPPER = "NoSuchMapper"
    with pytest.raises(KeyError, match="NoSuchMapper"):
        build_mapper(cfg, is_train=True)


def test_mapper_registry_documents_the_call():
    assert "mapper(dataset_dict, sample_seed=0)" in AMODAL_MAPPER_REGISTRY.__doc__
