import cv2
import numpy as np
import pytest
import torch

from amodal2.data.datasets import load_amodal_coco_json
from amodal2.data.mappers.transfer_pairs import TransferPairMapper
from amodal2.data.reference_sets import crop_reference, find_references
from amodal2.structures import encode_mask
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

SIZE = (60, 90)


def block(y0, y1, x0, x1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


SQUARE, LONG, TALL = block(4, 24, 4, 24), block(30, 42, 4, 40), block(10, 50, 50, 70)
FRONT = block(8, 52, 60, 80)


def record(number, amodal, visible):
    masks = {"amodal_segm": encode_mask(amodal), "visible_segm": encode_mask(visible)}
    return thing(number, **masks)


@pytest.fixture
def picture(tmp_path):
    image = np.zeros((*SIZE, 3), np.uint8)
    image[SQUARE], image[LONG] = (200, 0, 0), (0, 200, 0)
    image[TALL], image[FRONT] = (0, 0, 200), (90, 90, 90)
    cv2.imwrite(str(tmp_path / "1.png"), image[..., ::-1])
    data = image_content(
        record(1, SQUARE, SQUARE),
        record(2, LONG, LONG),
        record(3, TALL, TALL & ~FRONT),
        record(4, FRONT, FRONT),
        record(5, SQUARE, np.zeros(SIZE, bool)),
    )
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    (found,) = load_amodal_coco_json(write(tmp_path, data), tmp_path)
    return found


@pytest.fixture
def mapper(picture):
    return TransferPairMapper(
        is_train=True, references=find_references([picture], 10), image_format="RGB"
    )


def test_references_are_the_complete_objects(picture, mapper):
    assert [r.source.rsplit("#")[1] for r in mapper.shapes.references] == ["1", "2", "4"]
    image, mask = crop_reference(mapper.shapes.references[1])
    assert image.shape == (12, 36, 3)
    assert mask.all()
    assert (image == (0, 200, 0)).all()


def test_pairs_have_the_query_and_references_on_both_sides(picture, mapper):
    seen = set()
    for seed in range(12):
        sample = mapper(picture, seed)
        height, width = sample["image"].shape[1:]
        x0, y0, x1, y1 = sample["amodal_box"]
        assert sample["mask"].shape == (height, width)
        assert sample["mask"].any()
        seen.add((x1 - x0, y1 - y0))
        assert abs(x0) <= 2
        assert abs(y0) <= 2
        overlaps = [r["overlap"] for r in sample["references"]]
        assert overlaps
        assert all(o >= 0.75 or o <= 0.55 for o in overlaps)
        assert len([o for o in overlaps if o >= 0.75]) <= 1
    assert seen == {(20.0, 20.0), (36.0, 12.0), (20.0, 40.0), (20.0, 44.0)}


def test_pairs_with_context_show_more_of_the_image(picture):
    references = find_references([picture], 10)
    plain = TransferPairMapper(is_train=True, references=references)
    wide = TransferPairMapper(is_train=True, references=references, context=1.5)
    one, other = plain(picture, 3), wide(picture, 3)
    assert other["image"].shape[1] > one["image"].shape[1]
    assert other["mask"].sum() >= one["mask"].sum()
    (x0, y0, x1, y1), (u0, v0, u1, v1) = one["amodal_box"], other["amodal_box"]
    assert (x1 - x0, y1 - y0) == (u1 - u0, v1 - v0)
    assert u0 > x0


def test_pairs_are_fixed_by_the_seed(picture, mapper):
    one, other = mapper(picture, 5), mapper(picture, 5)
    assert one["amodal_box"] == other["amodal_box"]
    torch.testing.assert_close(one["image"], other["image"])


def test_mirrored_pairs_mirror_box_mask_and_references(picture):
    references = find_references([picture], 10)
    plain = TransferPairMapper(is_train=True, references=references)
    flipping = TransferPairMapper(is_train=True, references=references, flip=True)
    mirrored = 0
    for seed in range(8):
        one, other = plain(picture, seed), flipping(picture, seed)
        if one["amodal_box"] == other["amodal_box"] and one["image"].equal(other["image"]):
            continue
        mirrored += 1
        width = one["image"].shape[2]
        x0, y0, x1, y1 = one["amodal_box"]
        assert other["amodal_box"] == (width - x1, y0, width - x0, y1)
        assert other["image"].flip(2).equal(one["image"])
        assert other["mask"].flip(1).equal(one["mask"])
    assert mirrored


def test_surroundings_of_a_crop_and_their_mirror_image(picture):
    references = find_references([picture], 10)
    settings = {"is_train": True, "references": references, "around": 2.0}
    plain, flipping = (TransferPairMapper(**settings, flip=flip) for flip in (False, True))
    assert "around" not in TransferPairMapper(is_train=True, references=references)(picture, 0)
    mirrored = 0
    for seed in range(8):
        one, other = plain(picture, seed), flipping(picture, seed)
        around, (left, top) = one["around"], one["around"]["origin"]
        (height, width), outer = one["mask"].shape, around["image"].shape[2]
        inside = slice(-top, height - top), slice(-left, width - left)
        assert around["visible"][inside].equal(one["mask"])
        assert around["image"][:, *inside].equal(one["image"])
        assert (around["amodal"] & ~around["visible"] & ~around["others"]).sum() == 0
        if other["mask"].equal(one["mask"]) and other["image"].equal(one["image"]):
            continue
        mirrored += 1
        assert other["around"]["origin"] == (width - left - outer, top)
        for name in ("image", "visible", "others", "amodal"):
            assert other["around"][name].flip(-1).equal(around[name])
        for own, turned in zip(one["references"], other["references"], strict=True):
            assert turned["mask"].flip(1).equal(own["mask"])
    assert mirrored


def test_test_samples_have_the_visible_masks_as_proposals(picture):
    mapper = TransferPairMapper(is_train=False, references=[])
    sample = mapper(picture)
    proposals = sample["proposals"]
    assert "annotations" not in sample
    assert len(proposals) == 4
    assert proposals.pred_boxes.tensor[2].tolist() == [50, 10, 60, 50]
    assert proposals.pred_visible_masks[2].numpy().tolist() == (TALL & ~FRONT).tolist()
    empty = mapper({**picture, "annotations": []})["proposals"]
    assert len(empty) == 0
    assert empty.pred_visible_masks.shape == (0, *SIZE)


def test_nothing_to_train_with_is_refused(picture, mapper):
    with pytest.raises(ValueError, match="expected references, got none"):
        TransferPairMapper(is_train=True, references=[])
    with pytest.raises(ValueError, match="an object with visible pixels"):
        mapper({**picture, "annotations": []}, 0)
