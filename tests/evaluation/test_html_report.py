from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from amodal2.evaluation.ap_charts import BINS, occlusion_chart, recall_chart
from amodal2.evaluation.comparison import Comparison, Difference
from amodal2.evaluation.html_report import Picture, write_html
from amodal2.evaluation.image_protocols import evaluate_images
from amodal2.evaluation.image_report import ImageReports
from amodal2.evaluation.svg_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_chart
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from tests.structures.toy_images import found, image_dataset, thing
from tests.structures.toy_videos import bar, dataset, prediction, track, tube

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def report(tmp_path):
    """Score a right prediction of a half hidden object and one beside an unhidden object."""
    whole = {"amodal_segm": bar(0, 10), "visible_segm": bar(0, 10)}
    truth = image_dataset(
        tmp_path, thing(1, occlusion_rate=0.5), thing(2, image=2, occlusion_rate=0.0, **whole),
        images=2,
    )  # fmt: skip
    records = [
        found(0.9, amodal_segm=bar(0, 10), visible_segm=bar(0, 5)),
        found(0.8, image=2, amodal_segm=bar(12, 20), visible_segm=bar(12, 20)),
    ]
    names = ["coco", "cocoa"]
    return ImageReports([evaluate_images(truth, records, protocol=name) for name in names])


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Return the points of the lines of a chart in data units, without those of the legend."""
    found = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d"))
        if path.get("class") == "line" and len(points) > 1:
            found.append(
                [
                    (
                        (float(x) - LEFT) / (WIDTH - LEFT - RIGHT),
                        100 - 100 * (float(y) - TOP) / (HEIGHT - TOP - BOTTOM),
                    )
                    for x, y in points
                ]
            )
    return found


def test_line_chart_places_values_and_breaks_at_none():
    options = {"x_label": "x < y", "y_label": "y", "ticks": {0: "low"}, "markers": True}
    svg = line_chart("a & b", {"one": [0, 50, None, 100]}, [0, 1, 2, 4], **options)
    (points,) = lines(svg)
    assert [x for x, _ in points] == pytest.approx([0, 0.25, 1], abs=1e-3)
    assert [y for _, y in points] == pytest.approx([0, 50, 100], abs=0.1)
    commands = re.search(r'd="(M[^"]+)" stroke', svg).group(1)
    assert re.findall("[ML]", commands) == ["M", "L", "M"]
    assert "a &amp; b" in svg
    assert svg.count("<circle") == 3


def test_recall_chart_falls_after_the_found_objects(report):
    curves = lines(recall_chart("amodal", report.samplers["coco", "amodal"]))
    assert len(curves) == 3
    for curve in curves:  # one of two objects is found, by the first prediction
        assert [y for x, y in curve if x <= 0.5] == pytest.approx([100] * 51, abs=0.1)
        assert [y for x, y in curve if x > 0.501] == pytest.approx([0] * 50, abs=0.1)


def test_occlusion_chart_scores_the_objects_of_each_bin(report):
    svg = occlusion_chart("amodal", report.samplers["coco", "amodal"])
    heights = {
        (round(float(dot.get("cx"))), round(float(dot.get("cy"))))
        for dot in ElementTree.fromstring(svg).iter(f"{SVG}circle")
    }
    step = (WIDTH - LEFT - RIGHT) / (len(BINS) - 1)
    assert heights == {(LEFT, HEIGHT - BOTTOM), (round(LEFT + 2 * step), TOP)}
    numbers = [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert [text for text in numbers if "n =" in text] == [f"n = {k}" for k in (1, 0, 1, 0, 0)]


def test_occlusion_chart_without_rates_is_empty(tmp_path):
    truth = dataset(tmp_path, track(1))
    scored = evaluate_video_tracks(truth, [prediction(0.5, segmentations=tube(bar(0, 10)))])
    (details,) = scored.samplers.values()
    assert occlusion_chart("visible", details) == ""


def test_write_html_has_tables_with_protocols_and_charts_and_no_network(report, tmp_path):
    picture = Picture("worst: 2.png", b"\xff\xd8")
    write_html(tmp_path / "new" / "out.html", "A & B", report, pictures=[picture])
    text = (tmp_path / "new" / "out.html").read_text()
    assert "<h1>A &amp; B</h1>" in text
    assert "2 images, 2 true objects, 2 predictions" in text
    for protocol in ("coco", "cocoa"):
        assert f"<h3>Protocol: {protocol}</h3>" in text
    value = report.reports[0].percent()["amodal"]["AP"]
    assert f"<tr><td>amodal</td><td>{value:.2f}</td>" in text
    assert "<td>amodal: fish</td>" in text
    assert "data:image/jpeg;base64,/9g=" in text
    assert "COCOA amodalAPI: all classes as one" in text
    charts = re.findall("<svg.*?</svg>", text)
    rows = [key for key, one in report.samplers.items() if not one.part]
    assert len(charts) == 2 * len(rows)
    outside = re.sub(r'xmlns="[^"]+"', "", text)
    assert "http" not in outside
    assert "<script" not in outside


def test_write_html_folds_all_but_the_main_metrics_of_tracking(tmp_path):
    truth = dataset(tmp_path, *(track(i, amodal_segmentations=tube(bar(0, 20))) for i in (1, 2)))
    records = [prediction(0.5, segmentations=tube(bar(0, 10)))]
    options = {"metrics": ("ap", "hota"), "occlusion_bins": True}
    scored = evaluate_video_tracks(truth, records, **options)
    write_html(tmp_path / "out.html", "tracks", scored)
    text = (tmp_path / "out.html").read_text()
    table = next(part for part in text.split("<table>") if "<th>HOTA</th>" in part)
    assert "<th>IDSW</th>" in table
    assert "<th>CLR_TP</th>" not in table
    assert "<summary>All averages and metrics</summary>" in text
    assert "<td>visible (all_classes_average)</td>" in text
    section = text.split("<h3>Visible tracking under occlusion</h3>")[1]
    expected = f"{scored.tracking['visible'].percent()['HOTA']:.2f}"
    assert f"<td>{expected}</td>" in section.split("</tr>")[1]


def test_write_html_shows_a_comparison(tmp_path):
    differences = [
        Difference("coco", "amodal", "AP", 20.0, 30.0, 5.0, 15.0),
        Difference("coco", "amodal", "AR1", 20.0, 21.0, -1.0, 3.0),
    ]
    result = Comparison(differences, 12, 200, 7, ["visible (coco): only in A"])
    write_html(tmp_path / "out.html", "two", comparison=result)
    text = (tmp_path / "out.html").read_text()
    assert "12 scenes, 200 resamples, seed 7" in text
    assert "<td>+10.00</td><td>[+5.00, +15.00]</td>" in text
    assert text.count("<tr class=clear>") == 1
    assert "only in A" in text
    assert json.loads(json.dumps(result.to_dict()))["differences"][1]["difference"] == 1
