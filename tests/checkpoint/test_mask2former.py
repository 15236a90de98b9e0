"""Renaming of official Mask2Former keys."""

import pytest

from amodal2.checkpoint import upgrade_mask2former_keys

OLD = {
    "backbone.stem.conv1.weight": 0,
    "sem_seg_head.adapter_1.weight": 1,
    "sem_seg_head.transformer.encoder.layers.0.linear1.weight": 2,
    "sem_seg_head.mask_features.bias": 3,
    "sem_seg_head.predictor.static_query.weight": 4,
    "sem_seg_head.predictor.query_embed.weight": 5,
    "criterion.empty_weight": 6,
}
NEW = {
    "backbone.stem.conv1.weight": 0,
    "sem_seg_head.pixel_decoder.adapter_1.weight": 1,
    "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1.weight": 2,
    "sem_seg_head.pixel_decoder.mask_features.bias": 3,
    "sem_seg_head.predictor.query_feat.weight": 4,
    "sem_seg_head.predictor.query_embed.weight": 5,
    "criterion.empty_weight": 6,
}


@pytest.mark.parametrize("state", [OLD, NEW], ids=["old_layout", "new_layout"])
def test_upgrade_mask2former_keys_any_layout_gives_the_new_one(state):
    renamed = upgrade_mask2former_keys(state)
    assert list(renamed.items()) == list(NEW.items())


def test_upgrade_mask2former_keys_twice_changes_nothing_more():
    once = upgrade_mask2former_keys(OLD)
    assert upgrade_mask2former_keys(once) == once


def test_upgrade_mask2former_keys_two_layouts_at_once_raises():
    state = {"sem_seg_head.layer_1.weight": 0, "sem_seg_head.pixel_decoder.layer_1.weight": 1}
    with pytest.raises(ValueError, match=r"expected one key for 'sem_seg_head\.pixel_decoder"):
        upgrade_mask2former_keys(state)


def test_upgrade_mask2former_keys_keeps_module_versions():
    from torch import nn

    state = nn.Linear(2, 2).state_dict()
    assert upgrade_mask2former_keys(state)._metadata == state._metadata
