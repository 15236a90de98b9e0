import json

import cv2
import numpy as np
import pytest

from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle
from tests.conftest import load_script


@pytest.fixture
def coco(tmp_path):
    """An image of COCO's own form: polygons, visible masks alone, one object cut by the border."""
    image = np.full((60, 90, 3), 40, np.uint8)
    image[10:40, 10:40], image[20:50, 60:90] = (250, 0, 0), (0, 250, 0)
    cv2.imwrite(str(tmp_path / "1.png"), image)

    def record(number, x0, x1, y0, y1):
        corners = [x0, y0, x1, y0, x1, y1, x0, y1]
        keys = {"id": number, "image_id": 1, "category_id": 18, "iscrowd": 0}
        return keys | {"segmentation": [corners], "bbox": [x0, y0, x1 - x0, y1 - y0]}

    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 60, "width": 90}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [record(1, 10, 40, 10, 40), record(2, 60, 90, 20, 50)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, out, *options):
    tool = load_script("datasets/compose_copy_paste.py")
    arguments = [str(folder / "coco.json"), "--root", str(folder), "--out", str(out)]
    return tool.main([*arguments, "--count", "4", "--min-side", "10", *options])


def test_compose_writes_exact_masks_with_the_original_categories(coco, tmp_path):
    assert run(coco, tmp_path / "a", "--seed", "3", "--paste", "2", "3") == 0
    dataset = read_image_json(tmp_path / "a/train.json", strict=True)
    assert len(dataset.images) == 4
    assert {r["category_id"] for r in dataset.annotations} == {18}
    for image in dataset.images:
        records = [r for r in dataset.annotations if r["image_id"] == image["id"]]
        assert [r["iscrowd"] for r in records[:2]] == [0, 1]
        assert len(records) > 2
        nearer = np.zeros((60, 90), bool)
        for record in sorted(records, key=lambda r: r["order"]["rank"]):
            whole = decode_rle(record["amodal_segm"])
            seen = decode_rle(record["visible_segm"]) if record["visible_segm"] else whole & False
            np.testing.assert_array_equal(seen, whole & ~nearer)
            nearer |= whole
        assert cv2.imread(str(tmp_path / "a" / image["file_name"])).shape == (60, 90, 3)
        known = {record["id"]: record for record in records}
        for front, back in image["occlusion_pairs"]:
            assert known[front]["order"]["rank"] < known[back]["order"]["rank"]


def test_compose_same_seed_gives_the_same_bytes(coco, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(coco, tmp_path / name, "--seed", seed) == 0
    one, same, other = (
        [p.read_bytes() for p in sorted((tmp_path / name).rglob("*.*"))] for name in "abc"
    )
    assert one == same
    assert one != other


def test_compose_without_complete_objects_exits_with_two(coco, tmp_path, caplog):
    assert run(coco, tmp_path / "a", "--min-side", "50") == 2
    assert "expected complete objects to paste, got none" in caplog.text
    assert not (tmp_path / "a").exists()
