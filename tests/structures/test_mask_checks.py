from __future__ import annotations

from amodal2.structures.mask_checks import count_doubts, normalise_masks
from tests.structures.toy_videos import SIZE, bar, track, tube

VIDEOS = {1: {"height": SIZE[0], "width": SIZE[1]}}


def test_normalise_masks_reports_first_problem_of_each_record():
    bad = {"size": [*SIZE], "counts": "1"}
    tracks = [track(1), track(2, segmentations=[bar(0, 1), bad, 5]), track(3, segmentations=[bad])]
    problems = normalise_masks(tracks, VIDEOS)
    assert sorted(problems) == [1, 2]
    assert problems[1][0] == "segmentations[2]"
    assert problems[2][0] == "segmentations[0]"


def test_count_doubts_clean_tracks_have_none():
    hidden = track(1, segmentations=tube(None, bar(0, 4), None))
    hidden["amodal_segmentations"] = tube(None, bar(0, 4), bar(0, 6))
    assert not count_doubts([hidden], VIDEOS)


def test_count_doubts_visible_frame_without_amodal_mask_counts():
    doubtful = track(1, amodal_segmentations=tube(bar(0, 10), None, None))
    assert list(count_doubts([doubtful], VIDEOS).values()) == [2]
