import math

import numpy as np
import pytest

from amodal2.evaluation.mask_transfer import measure_masks, measure_pairs
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import encode_mask
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

SIZE = (40, 60)


def block(y0, y1, x0, x1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


WHOLE, SEEN = block(0, 20, 0, 40), block(0, 20, 0, 20)


@pytest.fixture
def dataset(tmp_path):
    def record(number, amodal, visible):
        masks = {"amodal_segm": encode_mask(amodal), "visible_segm": encode_mask(visible)}
        return thing(number, **masks)

    plain = block(25, 35, 0, 10)
    data = image_content(record(1, WHOLE, SEEN), record(2, plain, plain))
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    return read_image_json(write(tmp_path, data))


def predicted(dataset, mask, score=1.0):
    truth = dataset.annotations[0]
    return {
        "image_id": truth["image_id"],
        "category_id": truth["category_id"],
        "score": score,
        "amodal_segm": encode_mask(mask),
    }


def test_measure_pairs_by_hand():
    errors = np.array([[0.0, 0.1], [0.3, 0.4], [0.11, 0.0]])
    logits = np.array([1.0, -1.0, 2.0, -3.0, 0.5])
    positive = np.array([True, True, True, False, False])
    found = measure_pairs(errors, logits, positive, np.log([1.0, 1.09, 0.8]))
    assert found.delta == pytest.approx((0.05 + 0.35 + 0.055) / 3)
    assert found.delta_euclidean == pytest.approx((0.1 + 0.5 + 0.11) / 3)
    assert found.rgood == pytest.approx(1 / 3)
    assert (found.pos_acc, found.neg_acc) == (pytest.approx(2 / 3), 0.5)
    assert found.acc_all == 0.6
    assert found.scale_error == pytest.approx((math.log(1.09) - math.log(0.8)) / 3)
    assert found.scale_good == pytest.approx(2 / 3)
    assert found.to_dict()["pairs"] == 5


def test_measure_pairs_without_pairs_is_undefined():
    empty = np.zeros(0)
    found = measure_pairs(np.zeros((0, 2)), empty, empty.astype(bool), empty)
    assert math.isnan(found.delta)
    assert math.isnan(found.neg_acc)


def test_measure_masks_by_hand(dataset):
    found = measure_masks(
        dataset,
        [predicted(dataset, block(0, 20, 0, 30), 0.9), predicted(dataset, block(0, 4, 50, 60))],
    )
    assert found.miou_all == pytest.approx(0.375)
    assert found.miou_matched == pytest.approx(0.75)
    assert found.miou_invisible == pytest.approx(0.5)
    assert (found.matched, found.objects) == (1, 2)
    assert found.ap[0.75] == pytest.approx(found.ap[0.5])
    assert 0 < found.ap[0.5] < 0.5
    assert found.ap[0.9] == 0.0
    assert found.to_dict()["AP65"] == found.ap[0.65]
    assert found.mean_ap == pytest.approx(found.ap[0.5] * 6 / 10)


def test_measure_masks_truth_scores_one_and_nothing_scores_zero(dataset):
    truth = [predicted(dataset, m) for m in (WHOLE, block(25, 35, 0, 10))]
    found = measure_masks(dataset, truth)
    assert (found.miou_all, found.miou_invisible, found.mean_ap) == (1.0, 1.0, 1.0)
    nothing = measure_masks(dataset, [])
    assert (nothing.miou_all, nothing.matched, nothing.mean_ap) == (0.0, 0, 0.0)
    assert math.isnan(nothing.miou_matched)


def test_measure_masks_gives_each_prediction_to_one_object(dataset):
    dataset.annotations[1]["amodal_segm"] = dataset.annotations[0]["amodal_segm"]
    dataset.annotations[1]["amodal_bbox"] = dataset.annotations[0]["amodal_bbox"]
    assert measure_masks(dataset, [predicted(dataset, WHOLE)]).matched == 1
