from __future__ import annotations

import pytest

from amodal2.structures.packed_tube import PackedTube, pack_tube
from tests.structures.toy_videos import bar, dataset, track, tube

MASKS = [None, bar(0, 10), bar(2, 3), None, bar(0, 20), None]


def test_packed_tube_reads_like_the_list():
    packed = pack_tube(MASKS)
    assert isinstance(packed, PackedTube)
    assert len(packed) == len(MASKS)
    assert [*packed] == MASKS
    assert [packed[i] for i in range(len(MASKS))] == MASKS
    assert [packed[-i - 1] for i in range(len(MASKS))] == MASKS[::-1]
    assert packed[1:3] == MASKS[1:3]
    assert packed == MASKS
    assert packed != MASKS[::-1]
    assert packed != 5
    with pytest.raises(IndexError):
        packed[len(MASKS)]


@pytest.mark.parametrize(
    "masks",
    [
        None,
        5,
        [],
        [None, None],
        [bar(0, 10), {"size": [20, 4], "counts": "1"}],
        [bar(0, 10), [[0, 0, 5, 0, 5, 3]]],
        [{"size": [4, 20], "counts": [80]}],
        [{"size": [4, 20], "counts": ""}],
        [{"size": [4, 20], "counts": "é"}],
        [{"size": [4.0, 20], "counts": "1"}],
        [{"size": 4, "counts": "1"}],
        [{"counts": "1"}],
        ["text"],
    ],
    ids=range(13),
)
def test_pack_tube_leaves_anything_else_as_it_is(masks):
    assert pack_tube(masks) is masks


def test_video_dataset_pack_keeps_the_masks(tmp_path):
    truth = dataset(tmp_path, track(1, segmentations=tube(bar(0, 10), None, bar(5, 9))))
    before = truth.annotations[0]["segmentations"]
    truth.pack()
    assert isinstance(truth.annotations[0]["segmentations"], PackedTube)
    assert truth.annotations[0]["segmentations"] == before
