"""The image readers on miniature files in the official layouts."""

import json
from collections import Counter

import numpy as np
import pytest

from amodal2.data.importers.cocoa import read_cocoa
from amodal2.data.importers.d2sa import read_d2sa
from amodal2.data.importers.image_import import ImageImport
from amodal2.data.importers.kins import CATEGORIES, read_kins
from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.utils.errors import AnnotationError

SIZE = (6, 10)


def box(x0, y0, x1, y1):
    """Mask of a box, both ends included."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def polygon(x0, y0, x1, y1):
    return [x0, y0, x1 + 1, y0, x1 + 1, y1 + 1, x0, y1 + 1]


IMAGE = {"id": 9, "file_name": "9.png", "height": SIZE[0], "width": SIZE[1]}


def write(folder, annotations, **further):
    file = folder / "a.json"
    file.write_text(json.dumps({"images": [IMAGE], "annotations": annotations, **further}))
    return file


def kins_2020(**changes):
    common = {"image_id": 9, "category_id": 4, "iscrowd": 0, "oco_id": 2}
    front = {"id": 1, "a_segm": [polygon(0, 0, 3, 3)], "i_segm": [polygon(0, 0, 3, 3)], "ico_id": 1}
    back = {"id": 2, "a_segm": [polygon(2, 0, 6, 3)], "i_segm": [polygon(4, 0, 6, 3)], "ico_id": 2}
    alone = {"id": 3, "a_segm": [polygon(8, 0, 9, 1)], "i_segm": [polygon(8, 0, 9, 1)], "ico_id": 0}
    return [{**common, **front}, {**common, **back, **changes}, {**common, **alone}]


def test_read_kins_2020_order_becomes_pairs_of_overlapping_objects(tmp_path):
    release, images = read_kins(write(tmp_path, kins_2020()))
    (image,) = images
    assert release == "2020"
    assert image.pairs == [(0, 1)]
    assert [found.order for found in image.objects] == [
        {"cluster": 2, "rank": 0},
        {"cluster": 2, "rank": 1},
        None,
    ]
    np.testing.assert_equal(decode_rle(image.objects[1].visible), box(4, 0, 6, 3))


def test_read_kins_2020_other_cluster_gives_no_pair(tmp_path):
    _, images = read_kins(write(tmp_path, kins_2020(oco_id=5)))
    assert next(images).pairs == []


def test_read_kins_2019_has_polygons_and_rles(tmp_path):
    record = {
        "id": 1,
        "image_id": 9,
        "category_id": 4,
        "segmentation": [polygon(1, 1, 5, 4), [1, 2, 3]],
        "inmodal_seg": encode_mask(box(1, 1, 3, 4)),
    }
    release, images = read_kins(write(tmp_path, [record]))
    (found,) = next(images).objects
    assert release == "2019"
    np.testing.assert_equal(decode_rle(found.amodal), box(1, 1, 5, 4))
    np.testing.assert_equal(decode_rle(found.visible), box(1, 1, 3, 4))


def test_read_kins_car_has_another_place_in_each_release():
    places = [list(CATEGORIES[release]).index(4) for release in ("2019", "2020")]
    assert places == [2, 3]


def test_read_kins_other_file_lists_the_keys_found(tmp_path):
    file = write(tmp_path, [{"id": 1, "image_id": 9, "bbox": []}])
    with pytest.raises(AnnotationError, match=r"got the keys \['bbox', 'id', 'image_id'\]"):
        read_kins(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": [4]}, r"an integer category_id, got \[4\].*annotation 2"),
        ({"image_id": {}}, r"an integer image_id, got \{\}.*annotation 2"),
        ({"ico_id": "1"}, r"an integer, got '1'.*annotation 2, key ico_id"),
        ({"a_segm": [[0, 0, 1e9, 0, 5, 5]]}, r"outline below.*annotation 2, key a_segm"),
        ({"a_segm": [5]}, r"expected polygons.*annotation 2, key a_segm"),
    ],
)
def test_read_kins_broken_annotation_is_named(tmp_path, change, message):
    with pytest.raises(AnnotationError, match=message):
        list(read_kins(write(tmp_path, kins_2020(**change)))[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"an integer id, got None.*key images\[0\]\.id"),
        ({"file_name": 9}, r"a text file_name, got 9.*key images\[0\]\.file_name"),
        ({"width": -1}, r"pixels above 0, got -1.*image 9, key width"),
    ],
)
def test_read_kins_broken_image_is_named(tmp_path, change, message):
    file = write(tmp_path, kins_2020(), images=[IMAGE | change])
    with pytest.raises(AnnotationError, match=message):
        read_kins(file)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), [1]])
def test_image_import_source_id_that_json_cannot_hold_is_refused(tmp_path, number):
    _, images = read_kins(write(tmp_path, kins_2020(id=number)))
    collected = ImageImport(CATEGORIES["2020"])
    with pytest.raises(AnnotationError, match=r"a number or text, got .*image 9, key id"):
        collected.add(next(images))


def test_read_d2sa_name_of_two_categories_is_refused(tmp_path):
    names = [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]
    with pytest.raises(AnnotationError, match=r"unique category ids and names.*key categories"):
        read_d2sa(write(tmp_path, [], categories=names))


def test_read_kins_unknown_image_names_annotation(tmp_path):
    _, images = read_kins(write(tmp_path, kins_2020(image_id=8)))
    with pytest.raises(AnnotationError, match=r"image_id, got 8 .*annotation 2"):
        next(images)


def cocoa_regions():
    stuff = {"segmentation": polygon(0, 0, 9, 5), "name": "sky", "isStuff": 1, "order": 3}
    open_region = {"segmentation": polygon(0, 0, 3, 3), "name": "dog", "isStuff": 0, "order": 1}
    hidden = {
        "segmentation": polygon(2, 0, 6, 3),
        "name": "cat",
        "isStuff": 0,
        "order": 2,
        "visible_mask": encode_mask(box(4, 0, 6, 3)),
    }
    regions = [stuff, open_region, hidden]
    one = {"id": 5, "image_id": 9, "regions": regions, "depth_constraint": "2-3,3-1"}
    return [one, {**one, "id": 6}]


def test_read_cocoa_original_layout_leaves_out_stuff_and_second_annotators(tmp_path):
    report = Counter()
    names, images = read_cocoa(write(tmp_path, cocoa_regions()), report)
    (image,) = images
    assert names == {1: "object"}
    assert [found.source["name"] for found in image.objects] == ["dog", "cat"]
    assert image.pairs == [(0, 1)]
    assert image.objects[0].visible == image.objects[0].amodal
    np.testing.assert_equal(decode_rle(image.objects[1].visible), box(4, 0, 6, 3))
    assert report == {
        "stuff regions left out": 1,
        "annotations of further annotators left out": 1,
    }


def test_read_cocoa_stuff_on_request_keeps_all_pairs(tmp_path):
    _, images = read_cocoa(write(tmp_path, cocoa_regions()), Counter(), keep_stuff=True)
    assert next(images).pairs == [(1, 2), (2, 0)]


def test_read_cocoa_broken_constraint_names_annotation(tmp_path):
    records = cocoa_regions()
    records[0]["depth_constraint"] = "2>3"
    _, images = read_cocoa(write(tmp_path, records), Counter())
    with pytest.raises(AnnotationError, match=r"got '2>3'.*annotation 5, key depth_constraint"):
        next(images)


def test_read_cocoa_cls_without_visible_mask_is_in_the_open(tmp_path):
    record = {
        "id": 1,
        "image_id": 9,
        "category_id": 44,
        "segmentation": encode_mask(box(0, 0, 2, 2)),
    }
    file = write(tmp_path, [record], categories=[{"id": 44, "name": "bottle"}])
    names, images = read_cocoa(file, Counter())
    (found,) = next(images).objects
    assert names == {44: "bottle"}
    assert found.visible == found.amodal


def test_read_d2sa_without_visible_mask_is_an_error(tmp_path):
    record = {"id": 7, "image_id": 9, "category_id": 1}
    record["segmentation"] = encode_mask(box(0, 0, 2, 2))
    file = write(tmp_path, [record], categories=[{"id": 1, "name": "adelholzener"}])
    _, images = read_d2sa(file)
    with pytest.raises(AnnotationError, match=r"a mask, got none .*annotation 7, key visible_mask"):
        next(images)


def test_read_d2sa_test_info_without_categories_is_an_error(tmp_path):
    with pytest.raises(AnnotationError, match="a list of categories, got none"):
        read_d2sa(write(tmp_path, []))
