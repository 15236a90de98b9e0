from __future__ import annotations

import pytest

from amodal2.evaluation.completion_input import pair_completions
from amodal2.utils.errors import AnnotationError
from tests.structures.toy_images import image_dataset, thing
from tests.structures.toy_videos import LENGTH, SIZE, bar, dataset, track, tube

WHOLE = tube(bar(0, 12))


def truth(folder):
    return dataset(
        folder, track(1, amodal_segmentations=WHOLE), track(2, amodal_segmentations=WHOLE)
    )


def test_pair_completions_gives_every_object_its_samples(tmp_path):
    records = [{"gt_id": 2, "sample": k, "amodal_segmentations": WHOLE} for k in (1, 0)]
    (first, second), notes = pair_completions(truth(tmp_path), records)
    assert first.samples == [[None] * LENGTH] * 2
    assert second.samples == [WHOLE, WHOLE]
    assert len(notes) == 1


def test_pair_completions_absent_sample_is_noted(tmp_path):
    records = [{"gt_id": i, "amodal_segmentations": WHOLE} for i in (1, 2)]
    records.append({"gt_id": 1, "sample": 1, "amodal_segmentations": WHOLE})
    _, notes = pair_completions(truth(tmp_path), records)
    assert notes == ["1 of 2 samples per object are missing: empty masks"]


def test_pair_completions_masks_outside_the_truth_are_noted(tmp_path):
    short = tube(bar(0, 12), None, None)
    one = track(1, segmentations=short, amodal_segmentations=short)
    _, notes = pair_completions(
        dataset(tmp_path, one), [{"gt_id": 1, "amodal_segmentations": WHOLE}]
    )
    assert notes == ["2 predicted masks in frames without an amodal mask are not judged"]


def test_pair_completions_boxes_and_rates_of_the_file_are_kept(tmp_path):
    boxes, rates = [[-3, 0, 20, 4]] * LENGTH, [0.5] * LENGTH
    one = track(1, amodal_segmentations=WHOLE, amodal_bboxes=boxes, occlusion_rates=rates)
    ((found,), _) = pair_completions(dataset(tmp_path, one), [])
    assert (found.boxes, found.rates) == (boxes, rates)


GOOD = {"gt_id": 1, "amodal_segmentations": WHOLE}


@pytest.mark.parametrize(
    ("keys", "key", "text"),
    [
        pytest.param({"gt_id": 9}, "gt_id", "one of the 2 annotation ids, got 9", id="unknown"),
        pytest.param({"gt_id": "2"}, "gt_id", "got '2'", id="text-id"),
        pytest.param({"gt_id": 1}, "gt_id", r"got \(1, 0\) twice", id="twice"),
        pytest.param(
            {"video_id": 5}, "video_id", "expected 1 as in the ground truth, got 5", id="video"
        ),
        pytest.param({"sample": -1}, "sample", "from 0, got -1", id="sample"),
        pytest.param({"sample": 10**9}, "sample", "below the .* got 1000000000", id="far-sample"),
        pytest.param(
            {"amodal_segmentations": WHOLE[:2]},
            "amodal_segmentations",
            "list of 3 entries",
            id="short",
        ),
        pytest.param(
            {"amodal_segmentations": [None, None, {"size": [*SIZE], "counts": "8"}]},
            "amodal_segmentations[2]",
            "sum to 80",
            id="truncated",
        ),
    ],
)
def test_pair_completions_wrong_record_is_named(tmp_path, keys, key, text):
    with pytest.raises(AnnotationError, match=text) as caught:
        pair_completions(truth(tmp_path), [GOOD, {**GOOD, "gt_id": 2, **keys}], "out.json")
    assert (caught.value.file, caught.value.key) == ("out.json", key)
    assert "prediction record 1" in str(caught.value)


def test_pair_completions_record_without_the_key_is_named(tmp_path):
    with pytest.raises(AnnotationError, match="expected 'amodal_segm', got none"):
        pair_completions(image_dataset(tmp_path, thing(1)), [{"gt_id": 1}])


def test_pair_completions_record_that_is_no_object_is_named(tmp_path):
    with pytest.raises(AnnotationError, match="expected an object, got 3"):
        pair_completions(truth(tmp_path), [3])


def test_pair_completions_truth_without_amodal_masks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ground truth with 'amodal_segmentations'"):
        pair_completions(dataset(tmp_path, track(1)), [])
