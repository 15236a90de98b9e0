import numpy as np
import pytest

from amodal2.data.importers.image_import import ImageImport, SourceImage, SourceObject
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError


def columns(*chosen):
    mask = np.zeros((4, 8), dtype=bool)
    mask[:, list(chosen)] = True
    return encode_mask(mask)


def collect(*objects, pairs=()):
    importer = ImageImport({3: "cup"})
    importer.add(SourceImage(11, "a.png", 4, 8, list(objects), list(pairs)))
    return importer


def cup(amodal, visible):
    return SourceObject(3, amodal, visible, {"id": 5})


def test_add_follows_the_schema(tmp_path):
    importer = collect(
        cup(columns(0, 1), columns(0, 1)),
        cup(columns(1, 2, 3), columns(2, 3, 4)),
        cup(columns(0), None),
        pairs=[(0, 1), (0, 2)],
    )
    importer.write(tmp_path / "a.json")
    dataset = read_image_json(tmp_path / "a.json", strict=True)
    first, second, third = dataset.annotations
    assert first["occlusion_rate"] == 0
    assert second["visible_area"] == 8
    assert second["occlusion_rate"] == pytest.approx(1 / 3)
    assert third["visible_segm"] is None
    assert third["visible_bbox"] is None
    assert third["occlusion_rate"] == 1
    assert third["bbox"] == third["amodal_bbox"] == [0, 0, 1, 4]
    assert dataset.images[0]["occlusion_pairs"] == [[1, 2], [1, 3]]
    assert importer.report["visible pixels cut off outside the amodal mask"] == 4
    assert importer.report["objects hidden in full"] == 1


def test_add_object_without_pixels_is_left_out_with_its_pairs(tmp_path):
    importer = collect(cup(columns(), None), cup(columns(1), columns(1)), pairs=[(0, 1)])
    importer.write(tmp_path / "a.json")
    dataset = read_image_json(tmp_path / "a.json")
    assert len(dataset.annotations) == 1
    assert dataset.images[0]["occlusion_pairs"] == []
    assert importer.report["objects left out, without any amodal pixel"] == 1


def test_add_unknown_category_names_image_and_annotation():
    found = SourceObject(8, columns(0), None, {"id": 5})
    with pytest.raises(AnnotationError, match=r"ids \[3\], got 8 \[image 11, annotation 5"):
        collect(found)


def test_write_without_objects_is_an_error(tmp_path):
    with pytest.raises(AnnotationError, match="at least one object, got none"):
        collect().write(tmp_path / "a.json")
