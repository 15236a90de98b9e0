"""Pairs of predicted and true tracks."""

from __future__ import annotations

import numpy as np

from amodal2.evaluation.track_matching import match_visible
from amodal2.structures import encode_mask


def tube(*columns):
    """Return masks of 4 x 8 whose first so many columns are set; None for 0."""
    masks = []
    for count in columns:
        mask = np.zeros((4, 8), bool)
        mask[:, :count] = True
        masks.append(encode_mask(mask) if count else None)
    return masks


def records(*tubes):
    return [{"id": 10 + i, "segmentations": one} for i, one in enumerate(tubes)]


def test_the_most_similar_pairs_come_first_and_each_track_counts_once():
    truth = records(tube(4, 4), tube(5, 5))
    found = records(tube(5, 4), tube(4, 4), tube(4, 4))
    # Tube IoUs: 8/9, 1, 1 with the first object and 9/10, 8/10, 8/10 with the second one.
    assert match_visible(truth, found) == {10: 1, 11: 0}


def test_tracks_that_share_less_than_half_are_no_pair():
    assert match_visible(records(tube(4, 4)), records(tube(4, 0))) == {10: 0}
    assert match_visible(records(tube(4, 5)), records(tube(4, 0))) == {}
    assert match_visible(records(tube(4)), []) == match_visible([], records(tube(4))) == {}
