import numpy as np
import pytest
from pycocotools import mask as coco_mask

from amodal2.data.synthetic.annotate import TrackLabels


def box(x0, y0, x1, y1):
    mask = np.zeros((6, 8), bool)
    mask[y0:y1, x0:x1] = True
    return mask


NOTHING = np.zeros((6, 8), bool)
WHOLE = box(1, 2, 5, 5)
HALF = box(1, 2, 3, 5)


@pytest.fixture
def labelled():
    """Object 0 is never seen; object 1: unseen, half, hidden, gone, whole again."""
    labels = TrackLabels([4, 2], 6, 8)
    for seen, whole in (
        (NOTHING, WHOLE),
        (HALF, WHOLE),
        (NOTHING, WHOLE),
        (NOTHING, NOTHING),
        (WHOLE, WHOLE),
    ):
        labels.add(np.stack([NOTHING, seen]), np.stack([WHOLE, whole]), [1, 0])
    return labels.annotations()


def test_annotations_drop_objects_that_are_never_visible(labelled):
    tracks, _ = labelled
    assert [track["category_id"] for track in tracks] == [2]
    assert [track["id"] for track in tracks] == [1]


def test_annotations_follow_the_frame_states(labelled):
    (track,), _ = labelled
    assert [m is not None for m in track["segmentations"]] == [False, True, False, False, True]
    assert [m is not None for m in track["amodal_segmentations"]] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert track["occlusion_rates"] == [None, 0.5, 1.0, None, 0.0]
    assert track["areas"] == [None, 6, None, None, 12]
    assert track["amodal_areas"] == [None, 12, 12, None, 12]


def test_annotations_boxes_count_both_borders(labelled):
    (track,), _ = labelled
    assert track["bboxes"][1] == [1, 2, 2, 3]
    assert track["amodal_bboxes"][1] == [1, 2, 4, 3]


def test_annotations_masks_decode_to_what_was_added(labelled):
    (track,), _ = labelled
    np.testing.assert_array_equal(coco_mask.decode(track["amodal_segmentations"][2]), WHOLE)
    assert isinstance(track["segmentations"][1]["counts"], str)


def test_annotations_depth_order_names_the_annotated_objects_of_each_frame(labelled):
    _, order = labelled
    assert order == [[], [1], [1], [], [1]]
