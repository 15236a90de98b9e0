from __future__ import annotations

import json

import pytest

from tests.conftest import load_script
from tests.structures.toy_images import found, image_content, thing
from tests.structures.toy_videos import bar, content, track, tube, write

evaluate = load_script("tools/evaluate.py")
BOTH = {"amodal_segm": bar(0, 10), "visible_segm": bar(0, 5)}


def run(folder, truth: dict, records: list, *options: str) -> dict:
    """Run the tool and return its JSON report."""
    predictions = folder / "pred.json"
    predictions.write_text(json.dumps(records))
    paths = ["--gt", str(write(folder, truth)), "--pred", str(predictions)]
    out = folder / "out.json"
    assert evaluate.main([*paths, *options, "--output", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize(("protocol", "row"), [("coco", "amodal"), ("cocoa", "amodal/all")])
def test_evaluate_image_scores_by_the_protocol(tmp_path, capsys, protocol, row):
    truth = image_content(thing(1))
    options = ("--task", "image", "--protocol", protocol)
    report = run(tmp_path, truth, [found(0.9, **BOTH)], *options)
    assert report["results"][row]["AP"] == pytest.approx(100)
    assert f"protocol: {protocol}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("truth", "record"),
    [
        pytest.param(image_content(thing(1)), {"amodal_segm": bar(0, 10)}, id="images"),
        pytest.param(
            content(track(1, amodal_segmentations=tube(bar(0, 12)))),
            {"amodal_segmentations": tube(bar(0, 12))},
            id="videos",
        ),
    ],
)
def test_evaluate_completion_reads_images_and_videos(tmp_path, truth, record):
    report = run(tmp_path, truth, [{"gt_id": 1, **record}], "--task", "completion")
    assert list(report["results"]) == ["c2f_image", "diffusion_vas"]
    assert report["results"]["c2f_image"]["full"] == pytest.approx(100)
