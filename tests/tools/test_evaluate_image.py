from __future__ import annotations

import csv
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


def test_evaluate_image_scores_by_every_protocol(tmp_path, capsys):
    table = tmp_path / "table.csv"
    options = ("--task", "image", "--protocol", "coco", "cocoa", "--csv", str(table))
    report = run(tmp_path, image_content(thing(1)), [found(0.9, **BOTH)], *options)
    first, second = report["reports"]
    assert (first["protocol"], second["protocol"]) == ("coco", "cocoa")
    assert first["results"]["amodal"]["AP"] == pytest.approx(100)
    assert second["results"]["amodal/all"]["AP"] == pytest.approx(100)
    printed = capsys.readouterr().out
    assert "protocol: coco\n" in printed
    assert "protocol: cocoa\n" in printed
    values = {tuple(line[:6]): line[6] for line in csv.reader(table.open())}
    for protocol, row in (("coco", "amodal"), ("cocoa", "amodal/all")):
        value = values["image", protocol, row, "mean", "", "AP"]
        assert float(value) == pytest.approx(100)


def test_evaluate_image_adds_the_bins_of_the_named_rules(tmp_path, capsys):
    truth, records = image_content(thing(1)), [found(0.9, **BOTH)]
    names = ("--occlusion-rules", "a2vis", "fishbowl", "--occlusion-bins")
    [report] = run(tmp_path, truth, records, "--task=image", *names)["reports"]
    rows = {row.split("/", 1)[1] for row in report["results"] if row.startswith("amodal/")}
    bins = {"a2vis/lt50", "a2vis/gt50", "fishbowl/o10_70"}
    assert rows == bins | {"cocoa/none", "cocoa/partial", "cocoa/heavy"}
    assert report["results"]["amodal/a2vis/lt50"]["AP"] == pytest.approx(100)
    printed = capsys.readouterr().out
    assert "amodal/fishbowl/o10_70" in printed


def test_evaluate_image_unknown_occlusion_rule_stops_with_a_message(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--gt=g", "--pred=p", "--task=image", "--occlusion-rules", "other"])
    assert stop.value.code == 2
    assert "--occlusion-rules: invalid choice: 'other'" in capsys.readouterr().err


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
    table = tmp_path / "table.csv"
    options = ("--task", "completion", "--csv", str(table))
    report = run(tmp_path, truth, [{"gt_id": 1, **record}], *options)
    assert list(report["results"]) == ["c2f_image", "diffusion_vas"]
    assert report["results"]["c2f_image"]["full"] == pytest.approx(100)
    lines = list(csv.DictReader(table.open()))
    assert lines[0]["task"] == "completion"
    assert {line["protocol"] for line in lines} == set(report["results"])
