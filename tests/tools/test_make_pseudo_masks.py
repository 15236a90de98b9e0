"""Amodal masks for datasets that have amodal boxes alone."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.structures.rle import decode_rle
from amodal2.structures.video_json import read_video_json
from tests.conftest import load_script
from tests.data.importers.test_tao_amodal import SIZE, VIDEO, burst, tao, write
from tests.datasets.test_prepare_images import run as prepare
from tests.engine.toy import restored_loggers
from tests.modeling.diffusion_vas.tiny import build_pipeline

tool = load_script("tools/make_pseudo_masks.py")


@pytest.fixture
def dataset(tmp_path):
    """Convert a small TAO-Amodal, write its two frames and a model; return the new JSON file."""
    masks = ("--masks", str(write(tmp_path, burst(), "burst.json")))
    arguments = [str(write(tmp_path, tao(True))), *masks, "--out", str(tmp_path / "val.json")]
    assert prepare("prepare_tao_amodal", *arguments) == 0
    folder = tmp_path / "frames" / VIDEO
    folder.mkdir(parents=True)
    for name in ("0000", "0030"):
        cv2.imwrite(str(folder / f"{name}.jpg"), np.zeros((*SIZE, 3), np.uint8))
    build_pipeline(num_conditions=1).save_pretrained(tmp_path / "model")
    return tmp_path / "val.json"


def run(file, *more):
    options = [
        "size=(8, 8)",
        "steps=1",
        "window=2",
        "overlap=0",
        f"weights={file.parent / 'model'}",
    ]
    with restored_loggers():
        return tool.main(
            [
                *("--json", str(file), "--output", str(file.parent / "out.json")),
                *("--device", "cpu", *(f"--option={text}" for text in options), *more),
            ]
        )


def test_main_fills_boxes_of_tao_amodal_with_masks(dataset):
    every = json.loads(dataset.read_text())["annotations"]
    before = [record for record in every if any(record["segmentations"])]
    assert len(before) == 1
    assert len(every) == 2
    assert run(dataset) == 0
    found = read_video_json(dataset.parent / "out.json", strict=True)
    assert [record["id"] for record in found.annotations] == [record["id"] for record in before]
    for record, given in zip(found.annotations, before, strict=True):
        assert record["given_amodal_bboxes"] == given["amodal_bboxes"]
        for t, mask in enumerate(record["amodal_segmentations"]):
            visible, box = record["segmentations"][t], given["amodal_bboxes"][t]
            if visible is not None:
                seen = decode_rle(visible).astype(bool)
                assert (decode_rle(mask).astype(bool) >= seen).all()
                assert record["occlusion_rates"][t] == 1 - seen.sum() / record["amodal_areas"][t]
            if mask is not None and visible is None:
                columns = np.flatnonzero(decode_rle(mask).any(0))
                assert box[0] - 1 <= columns[0]
                assert columns[-1] <= box[0] + box[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("amodal_bboxes"), "expected amodal_bboxes of every track"),
        (
            lambda record: (
                record.update(segmentations=[None, None], bboxes=[None, None])
                or record.update(areas=[None, None])
            ),
            "expected visible masks, got none; give those of BURST",
        ),
    ],
)
def test_main_records_that_do_not_do_are_named(dataset, capsys, change, message):
    content = json.loads(dataset.read_text())
    for record in content["annotations"]:
        change(record)
    dataset.write_text(json.dumps(content))
    assert run(dataset) == 1
    assert message in capsys.readouterr().err


def test_main_box_without_extent_is_named(dataset, capsys):
    content = json.loads(dataset.read_text())
    content["annotations"][0]["amodal_bboxes"][0][2] = 0
    dataset.write_text(json.dumps(content))
    assert run(dataset) == 1
    assert "w, h > 0, got [-4.5, 1.0, 0, 3.0] in frame 0" in capsys.readouterr().err
