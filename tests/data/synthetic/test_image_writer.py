import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from amodal2.data.synthetic.image_writer import ImageSpec, label_picture, write_image_split
from amodal2.data.synthetic.market import build_market
from amodal2.data.synthetic.render import Frame, render_frame
from amodal2.data.synthetic.statistics import measure_images
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle

SPEC = ImageSpec(seed=3, width=96, height=72)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    write_image_split(SPEC, root, "train", 3)
    return root


def test_write_image_split_same_seed_gives_the_same_bytes(written, tmp_path):
    write_image_split(SPEC, tmp_path, "train", 3)
    assert contents(tmp_path) == contents(written)
    write_image_split(replace(SPEC, seed=4), tmp_path / "other", "train", 1)
    first = (tmp_path / "other/train/000000.png").read_bytes()
    assert first != (written / "train/000000.png").read_bytes()


def test_write_image_split_pictures_do_not_depend_on_their_number(written, tmp_path):
    write_image_split(SPEC, tmp_path, "train", 1)
    many, one = read_image_json(written / "train.json"), read_image_json(tmp_path / "train.json")
    assert one.annotations == many.annotations[: len(one.annotations)]
    assert (tmp_path / one.images[0]["file_name"]).read_bytes() == (
        written / many.images[0]["file_name"]
    ).read_bytes()


def test_write_image_split_holds_the_scene_and_keeps_to_the_schema(written):
    dataset = read_image_json(written / "train.json", strict=True)
    scene = build_market(np.random.default_rng([3, 0, 1]), 72, 96)
    frame = render_frame(scene, 0, 72, 96)
    records = [r for r in dataset.annotations if r["image_id"] == 2]
    image = cv2.imread(str(written / dataset.images[1]["file_name"]))[..., ::-1]
    np.testing.assert_array_equal(image, frame.image)
    for record, amodal, visible in zip(records, frame.amodal, frame.visible, strict=True):
        np.testing.assert_array_equal(decode_rle(record["amodal_segm"]), amodal)
        np.testing.assert_array_equal(decode_rle(record["visible_segm"]), visible)


def test_write_image_split_is_left_alone_and_refused_with_other_parameters(written, tmp_path):
    before = (written / "train.json").stat().st_mtime_ns
    write_image_split(SPEC, written, "train", 3)
    assert (written / "train.json").stat().st_mtime_ns == before
    write_image_split(SPEC, tmp_path, "train", 2)
    with pytest.raises(FileExistsError, match="--force"):
        write_image_split(SPEC, tmp_path, "train", 1)
    write_image_split(SPEC, tmp_path, "train", 1, force=True)
    assert sorted(contents(tmp_path)) == ["train.json", "train/000000.png"]


@pytest.mark.parametrize("bad", [("test", 1), ("train", 0)])
def test_write_image_split_bad_arguments_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="write_image_split: expected a split"):
        write_image_split(SPEC, tmp_path, *bad)


@pytest.mark.parametrize(
    ("values", "match"), [({"scene": "moon"}, "scene"), ({"seed": -1}, "seed")]
)
def test_image_spec_bad_values_are_refused(values, match):
    with pytest.raises(ValueError, match=match):
        ImageSpec(**values)


def test_label_picture_orders_clusters_and_names_who_hides_whom():
    amodal = np.zeros((4, 6, 20), bool)
    amodal[0, :, 0:6] = amodal[1, :, 4:10] = amodal[2, :, 8:12] = amodal[3, :, 15:18] = True
    order = [1, 3, 0, 2]
    visible = amodal.copy()
    visible[0] &= ~amodal[1]
    visible[2] &= ~amodal[1]
    frame = Frame(np.zeros((6, 20, 3), np.uint8), visible, amodal, order)
    image = label_picture(frame, [1, 1, 2, 3], 5, "a.png")
    ranks = [(found.order["cluster"], found.order["rank"]) for found in image.objects]
    assert ranks == [(0, 1), (0, 0), (0, 2), (1, 0)]
    assert sorted(image.pairs) == [(1, 0), (1, 2)]


def test_market_is_occluded_about_as_much_as_kins(tmp_path):
    """About half of the objects of KINS are occluded, on average by a third."""
    target = write_image_split(replace(SPEC, width=160, height=120), tmp_path, "val", 40)
    found = measure_images(read_image_json(target).annotations)
    assert found.images == 40
    assert 6 <= found.objects / found.images <= 12
    assert 0.43 <= found.occluded <= 0.66
    assert 0.25 <= found.mean_rate <= 0.42
    assert 0.08 <= found.heavy <= 0.22


def test_measure_images_counts_by_hand():
    rates = [(1, 0.0), (1, 0.005), (2, 0.2), (3, 0.6)]
    found = measure_images([{"image_id": i, "occlusion_rate": rate} for i, rate in rates])
    assert (found.images, found.objects, found.occluded, found.heavy) == (3, 4, 0.5, 0.25)
    assert found.mean_rate == pytest.approx(0.4)
    assert "3 images, 4 objects, 50.0 %" in str(found)


def test_market_json_has_the_parameters(written):
    info = json.loads((written / "train.json").read_text())["info"]
    assert (info["scene"], info["seed"], info["images"]) == ("market", 3, 3)
