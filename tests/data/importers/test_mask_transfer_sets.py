"""The reference and query sets of mask transfer on miniature files in the official layouts."""

from collections import Counter

import cv2
import numpy as np
import pytest

from amodal2.data.importers.cityscapes import read_complete_cars, why_incomplete
from amodal2.data.importers.cocoa_cars import read_cocoa_cars
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle
from amodal2.utils.errors import AnnotationError
from tests.data.importers.test_image_importers import box, polygon, write
from tests.datasets.test_prepare_images import run

SHAPE = (200, 400)


def area(y0, y1, x0, x1):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


CAR = area(50, 120, 100, 220)


def write_ids(root, ids, image="aachen_000001_000019", split="train"):
    folder = root / "gtFine" / split / image.split("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{image}_gtFine_instanceIds.png"
    cv2.imwrite(str(file), ids)
    return file


def street():
    """A whole car 26001, a car 26002 cut by the border, a group of cars; others far off."""
    ids = np.full(SHAPE, 7, np.uint16)
    ids[CAR] = 26001
    ids[area(50, 130, 300, 400)] = 26002
    ids[area(150, 160, 10, 40)] = 26
    ids[area(20, 45, 0, 10)] = 24000
    ids[area(0, 200, 260, 264)] = 17
    return ids


def test_read_complete_cars_keeps_whole_ones_and_counts_the_others(tmp_path):
    write_ids(tmp_path, street())
    write_ids(tmp_path, np.full(SHAPE, 7, np.uint16), "aachen_000002_000019")
    report = Counter()
    categories, images = read_complete_cars(tmp_path, "train", report)
    (image,) = images
    assert categories == {1: "car"}
    assert image.file_name == "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png"
    (found,) = image.objects
    assert found.source == {"id": 26001}
    np.testing.assert_equal(decode_rle(found.amodal), CAR)
    assert found.visible == found.amodal
    assert report == {
        "car groups left out": 1,
        "cars left out, at the border of the image": 1,
        "images left out, without a complete car": 1,
    }


@pytest.mark.parametrize(
    ("mask", "front", "reason"),
    [
        (CAR, area(0, 0, 0, 0), None),
        (CAR, area(123, 200, 0, 400), None),
        (CAR, area(122, 200, 0, 400), "other things at its contour"),
        (CAR, area(0, 200, 99, 100), "other things at its contour"),
        (area(50, 113, 100, 220), area(0, 0, 0, 0), "short side below 64 px"),
        (area(0, 70, 100, 220), area(0, 0, 0, 0), "at the border of the image"),
        (area(50, 120, 300, 400), area(0, 0, 0, 0), "at the border of the image"),
        (CAR | area(50, 52, 225, 230), area(0, 0, 0, 0), None),
        (CAR | area(50, 70, 225, 240), area(0, 0, 0, 0), "in several parts"),
    ],
)
def test_why_incomplete_names_the_first_broken_rule(mask, front, reason):
    assert why_incomplete(mask, front & ~mask) == reason


@pytest.mark.parametrize("value", [1, 17, 20, 26, 33, 24003, 26002])
def test_read_complete_cars_things_at_the_contour_make_it_incomplete(tmp_path, value):
    ids = np.full(SHAPE, 7, np.uint16)
    ids[CAR] = 26001
    ids[area(40, 130, 220, 230)] = value
    write_ids(tmp_path, ids)
    _, images = read_complete_cars(tmp_path, "train", Counter())
    assert list(images) == []


def test_read_complete_cars_scenery_at_the_contour_does_not_matter(tmp_path):
    ids = np.full(SHAPE, 21, np.uint16)
    ids[CAR] = 26001
    write_ids(tmp_path, ids)
    _, images = read_complete_cars(tmp_path, "train", Counter())
    assert len(next(images).objects) == 1


def test_read_complete_cars_other_image_names_file(tmp_path):
    write_ids(tmp_path, np.zeros(SHAPE, np.uint8))
    _, images = read_complete_cars(tmp_path, "train", Counter())
    with pytest.raises(AnnotationError, match=r"16-bit.*got uint8.*aachen_000001_000019_gtFine"):
        next(images)


def test_read_complete_cars_other_split_is_an_error(tmp_path):
    write_ids(tmp_path, street())
    with pytest.raises(FileNotFoundError, match=r"gtFine/val/<city>/\*_gtFine_instanceIds\.png"):
        read_complete_cars(tmp_path, "val", Counter())


def cocoa_cls(category=3):
    """A person in front of a car, a car in the open."""
    person = {"id": 1, "category_id": 1, "segmentation": [polygon(0, 0, 3, 3)]}
    hidden = {"id": 2, "category_id": category, "segmentation": [polygon(2, 0, 6, 3)]}
    hidden["visible_mask"] = [polygon(4, 0, 6, 3)]
    alone = {"id": 3, "category_id": category, "segmentation": [polygon(8, 0, 9, 1)]}
    return [{"image_id": 9, **record} for record in (person, hidden, alone)]


CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def test_read_cocoa_cars_of_cocoa_cls(tmp_path):
    report = Counter()
    names, images = read_cocoa_cars(write(tmp_path, cocoa_cls(), categories=CATEGORIES), report)
    (image,) = images
    assert names == {1: "car"}
    assert [(found.category, found.source["id"]) for found in image.objects] == [(1, 2), (1, 3)]
    np.testing.assert_equal(decode_rle(image.objects[0].visible), box(4, 0, 6, 3))
    assert report["objects left out, no cars"] == 1


def test_read_cocoa_cars_of_regions_named_car_keeps_their_order(tmp_path):
    regions = [
        {"name": name, "segmentation": polygon(x, 0, x + 3, 3), "isStuff": 0}
        for x, name in ((0, "person"), (1, "Car "), (2, "car"))
    ]
    record = {"id": 1, "image_id": 9, "regions": regions, "depth_constraint": "1-2,2-3"}
    _, images = read_cocoa_cars(write(tmp_path, [record]), Counter())
    (image,) = images
    assert [found.source["region"] for found in image.objects] == [2, 3]
    assert image.pairs == [(0, 1)]


def test_read_cocoa_cars_counts_images_without_cars(tmp_path):
    report = Counter()
    file = write(tmp_path, cocoa_cls(category=1), categories=CATEGORIES)
    _, images = read_cocoa_cars(file, report)
    assert list(images) == []
    assert report["images left out, without cars"] == 1


def test_read_cocoa_cars_without_the_category_is_an_error(tmp_path):
    file = write(tmp_path, cocoa_cls(category=1), categories=CATEGORIES[:1])
    with pytest.raises(AnnotationError, match=r"category car, got \['person'\].*key categories"):
        read_cocoa_cars(file, Counter())


def test_prepare_mask_transfer_writes_both_sets_and_compares_counts(tmp_path, caplog):
    write_ids(tmp_path, street())
    references, queries = tmp_path / "references.json", tmp_path / "queries.json"
    assert run("prepare_mask_transfer", "references", tmp_path, "--out", references) == 0
    assert "images: 320 published, 1 found" in caplog.text
    (car,) = read_image_json(references, strict=True).annotations
    assert (car["occlusion_rate"], car["amodal_bbox"]) == (0, [100, 50, 120, 70])
    file = write(tmp_path, cocoa_cls(), categories=CATEGORIES)
    assert run("prepare_mask_transfer", "queries", file, "--out", queries) == 0
    assert "images: 144 published, 1 found" in caplog.text
    rates = [car["occlusion_rate"] for car in read_image_json(queries, strict=True).annotations]
    assert rates == [pytest.approx(0.4), 0]
