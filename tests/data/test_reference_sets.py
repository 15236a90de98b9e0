import numpy as np
import pytest

from amodal2.data.reference_sets import (
    ReferenceShapes,
    find_references,
    shape_on_canvas,
    tight_box,
)
from amodal2.structures.rle import encode_mask

SIZE = (60, 100)


def block(y0, y1, x0, x1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def item(*records):
    annotations = [{"id": n, "category_id": 2, "iscrowd": 0, **r} for n, r in enumerate(records)]
    return {"file_name": "a.png", "height": 60, "width": 100, "annotations": annotations}


def whole(mask, rate=0.0, **keys):
    rle = encode_mask(mask)
    return {"amodal_segm": rle, "visible_segm": rle, "occlusion_rate": rate, **keys}


def test_find_references_keeps_what_is_seen_whole():
    good = block(10, 40, 10, 50)
    found = find_references(
        [
            item(
                whole(good),
                whole(good, rate=0.3),
                whole(good, iscrowd=1),
                whole(block(10, 40, 0, 40)),
                whole(block(10, 28, 10, 50)),
                whole(block(10, 40, 10, 30) | block(10, 40, 40, 60)),
            )
        ],
        20,
    )
    assert [r.source for r in found] == ["a.png#0"]
    assert (found[0].box, found[0].class_id) == ((10, 10, 50, 40), 2)
    assert "annotations" not in found[0].item


def test_find_references_without_amodal_masks_looks_for_neighbours():
    good, touching = block(10, 40, 10, 40), block(12, 38, 41, 70)
    alone = item({"visible_segm": encode_mask(good)})
    beside = item({"visible_segm": encode_mask(good)}, {"visible_segm": encode_mask(touching)})
    assert len(find_references([alone], 20)) == 1
    assert find_references([beside], 20) == []
    assert find_references([{**alone, "annotations": []}], 20) == []


def test_shape_on_canvas_does_not_depend_on_size_and_place():
    one, other = shape_on_canvas(block(10, 20, 20, 40)), shape_on_canvas(block(4, 34, 30, 90))
    np.testing.assert_array_equal(one, other)
    assert one.sum() == 32 * 64
    tall = shape_on_canvas(block(0, 60, 50, 54))
    assert tall.sum() == 32 * 96


def test_overlaps_compare_shapes_at_equal_scale_and_centre():
    records = [whole(block(10, 30, 10, 30)), whole(block(10, 30, 10, 50), category_id=1)]
    shapes = ReferenceShapes(find_references([item(*records)], 10))
    numbers = shapes.of_class(2)
    assert numbers.tolist() == [0]
    assert shapes.of_class(7).tolist() == []
    assert shapes.overlaps(block(5, 55, 20, 70), numbers) == pytest.approx([1.0])
    assert shapes.overlaps(block(5, 25, 20, 60), np.array([0, 1])) == pytest.approx([0.5, 1.0])


def test_tight_box_of_a_mask():
    assert tight_box(block(3, 9, 20, 21)) == (20, 3, 21, 9)
