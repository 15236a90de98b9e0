"""The command line of the image demo."""

import json
import struct

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from amodal2.evaluation.image_predictions import check_image_predictions
from amodal2.structures.image_json import read_image_json
from amodal2.visualization.panels import panel_width
from tests.conftest import load_script
from tests.engine.toy import restored_loggers
from tests.modeling.roi_heads.tiny import tiny_config
from tests.structures.toy_images import image_content
from tests.structures.toy_videos import write

HEIGHT, WIDTH = 48, 64


class RedFinder(torch.nn.Module):
    """Finds the red pixels of an image as one object whose right half is hidden."""

    def forward(self, samples):
        (sample,) = samples
        blue, _, red = sample["image"].float()
        found = (red > 150) & (blue < 100)
        size = (sample["height"], sample["width"])
        mask = torch.nn.functional.interpolate(found[None, None].float(), size)[0] > 0.5
        mask = mask if mask.any() else mask[:0]
        count = len(mask)
        visible = mask.clone()
        visible[..., size[1] // 2 :] = False
        result = Instances(size)
        result.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0]])[:count])
        result.pred_classes = torch.zeros(count, dtype=torch.int64)
        result.scores = torch.full((count,), 0.75)
        result.pred_amodal_masks, result.pred_visible_masks = mask, visible
        result.pred_occluder_masks = mask & ~visible
        return [{"instances": result}]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Give a function that runs the tool with a finder of red: (status, output folder)."""
    tool = load_script("tools/image_demo.py")
    config = tmp_path / "config.yaml"
    config.write_text("MODEL:\n  DEVICE: cpu\n  ROI_HEADS:\n    NUM_CLASSES: 2\nVERSION: 2\n")
    monkeypatch.setattr(tool.model_zoo, "load_model", lambda cfg: RedFinder())
    output = tmp_path / "out"

    def run(*arguments):
        common = ["--config-file", str(config), "--output", str(output), "--input"]
        return tool.main([*common, *(str(argument) for argument in arguments)]), output

    with restored_loggers():
        yield run


def picture(*, dtype=np.uint8, channels=3, red=True):
    """Return an image for OpenCV (BGR) with a red block in its upper part."""
    image = np.full((HEIGHT, WIDTH, channels), 40, np.uint8)
    if red:
        image[4:20, 16:48, 2] = 220
    return image.astype(dtype) * (257 if dtype == np.uint16 else 1)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def records(output):
    return json.loads((output / "predictions.json").read_text())


def test_image_demo_writes_panels_and_predictions_of_one_image(demo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    status, output = demo(tmp_path / "a.png")
    assert (status, files(output)) == (0, ["images.json", "panels/a.png", "predictions.json"])
    assert cv2.imread(str(output / "panels" / "a.png")).shape == (HEIGHT, panel_width(WIDTH, 3), 3)
    (record,) = records(output)
    assert (record["image_id"], record["category_id"], record["score"]) == (1, 1, 0.75)
    images = json.loads((output / "images.json").read_text())
    assert images["images"] == [
        {"id": 1, "file_name": str(tmp_path / "a.png"), "height": HEIGHT, "width": WIDTH}
    ]
    assert [entry["name"] for entry in images["categories"]] == ["class 1", "class 2"]


def test_image_demo_saves_what_is_asked_for(demo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    _, output = demo(tmp_path / "a.png", "--save", "overlay,masks")
    kinds = [f"masks/a/001_{kind}.png" for kind in ("amodal", "occluder", "visible")]
    assert files(output) == [*kinds, "overlay/a.png"]
    amodal = cv2.imread(str(output / kinds[0]), cv2.IMREAD_UNCHANGED)
    assert amodal[10, 20] == 255
    assert amodal[40, 20] == 0


def test_image_demo_takes_folders_and_patterns_once(demo, tmp_path):
    (tmp_path / "p" / "q").mkdir(parents=True)
    for name in ("p/2.png", "p/10.png", "p/q/2.jpg"):
        cv2.imwrite(str(tmp_path / name), picture())
    (tmp_path / "p" / "notes.txt").write_text("x")
    status, output = demo(
        tmp_path / "p", tmp_path / "p" / "**" / "*.[pj][np]g", "--save", "overlay"
    )
    assert (status, files(output)) == (0, ["overlay/10.png", "overlay/2.png", "overlay/2_2.png"])


def test_image_demo_predictions_are_what_evaluation_reads(demo, tmp_path):
    (tmp_path / "images").mkdir()
    content = image_content(images=2)
    for entry in content["images"]:
        entry.update(height=HEIGHT, width=WIDTH)
        cv2.imwrite(str(tmp_path / "images" / entry["file_name"]), picture())
    content["images"][0]["id"], content["images"][1]["id"] = 70, 60
    content["categories"] = [{"id": 1, "name": "crab"}]
    truth = write(tmp_path, content)
    status, output = demo(tmp_path / "images", "--ids", truth)
    assert status == 0
    checked, _ = check_image_predictions(records(output), read_image_json(truth))
    assert sorted(record["image_id"] for record in checked) == [60, 70]
    cv2.imwrite(str(tmp_path / "images" / "other.png"), picture())
    status, _ = demo(tmp_path / "images", "--ids", truth)
    assert status == 1


def with_exif_turn(path, orientation):
    """Write a JPEG that asks to be turned."""
    cv2.imwrite(str(path), picture(), [cv2.IMWRITE_JPEG_QUALITY, 100])
    data = path.read_bytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    header = b"\xff\xe1" + struct.pack(">H", len(segment) + 2)
    path.write_bytes(data[:2] + header + segment + data[2:])


def test_image_demo_turns_images_as_exif_asks(demo, tmp_path):
    with_exif_turn(tmp_path / "a.jpg", 6)  # a quarter to the right
    status, output = demo(tmp_path / "a.jpg", "--save", "json,masks")
    assert status == 0
    (record,) = records(output)
    assert record["amodal_segm"]["size"] == [WIDTH, HEIGHT]
    amodal = cv2.imread(str(output / "masks" / "a" / "001_amodal.png"), cv2.IMREAD_UNCHANGED)
    assert amodal[32, HEIGHT - 12] == 255
    assert amodal[32, 10] == 0


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (picture(channels=4), 1),
        (picture(dtype=np.uint16), 1),
        (picture()[..., 2], 0),  # grey has no red
        (picture(red=False), 0),
    ],
    ids=["rgba", "16 bits", "grey", "empty"],
)
def test_image_demo_takes_any_kind_of_image(demo, tmp_path, image, found):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    status, output = demo(tmp_path / "a.png", "--save", "overlay,panels,json")
    assert status == 0
    assert len(records(output)) == found
    drawn = cv2.imread(str(output / "overlay" / "a.png"))
    plain = cv2.imread(str(tmp_path / "a.png"))
    assert np.array_equal(drawn, plain) == (found == 0)


def test_image_demo_says_what_it_did_not_find(demo, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    status, output = demo(tmp_path / "a.png", "--score", "0.8")
    assert (status, records(output)) == (0, [])
    assert "nothing found with a score of at least 0.8" in capsys.readouterr().err


def test_image_demo_reports_bad_input_and_goes_on(demo, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.mp4").write_bytes(b"")
    names = ["a.png", "b.png", "c.mp4", "absent.png"]
    status, output = demo(*(tmp_path / name for name in names))
    assert (status, len(records(output))) == (1, 1)
    text = capsys.readouterr().err
    for part in ("cannot be decoded", "got a video; use tools/video_demo.py", "absent.png"):
        assert part in text


def test_image_demo_without_any_image_fails(demo, tmp_path, capsys):
    assert demo(tmp_path / "absent")[0] == 1
    assert "not found" in capsys.readouterr().err


def test_image_demo_runs_a_detector_with_and_without_augmentation(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    cfg = tiny_config("AISFormer", "TEST.AUG.MIN_SIZES", (48, 64), "INPUT.MIN_SIZE_TEST", 48)
    (tmp_path / "c.yaml").write_text(cfg.dump())
    tool = load_script("tools/image_demo.py")
    common = ["--config-file", tmp_path / "c.yaml", "--input", tmp_path / "a.png", "--score", "0"]
    for more in ([], ["--augment"]):
        output = tmp_path / f"out{len(more)}"
        with restored_loggers():
            arguments = [*common, "--output", output, "--save", "json", *more]
            assert tool.main([str(argument) for argument in arguments]) == 0
        found = records(output)
        assert len(found) > 0
        assert {"amodal_segm", "visible_segm", "occluder_segm", "bbox"} <= found[0].keys()
        assert found[0]["score"] == max(record["score"] for record in found)


def test_image_demo_refuses_models_of_videos(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    (tmp_path / "c.yaml").write_text("MODEL:\n  META_ARCHITECTURE: A2VIS\nVERSION: 2\n")
    common = ["--config-file", tmp_path / "c.yaml", "--input", tmp_path / "a.png"]
    tool = load_script("tools/image_demo.py")
    with restored_loggers():
        assert tool.main([str(part) for part in (*common, "--output", tmp_path / "out")]) == 1
    assert "got A2VIS, which works on videos" in capsys.readouterr().err
