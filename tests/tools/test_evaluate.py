from __future__ import annotations

import json

import pytest

from tests.conftest import golden_files, load_script
from tests.structures.toy_videos import bar, content, prediction, track, tube, write

evaluate = load_script("tools/evaluate.py")


@pytest.fixture
def files(tmp_path):
    """Write a ground truth with one doubtful track, and its predictions."""
    gt = write(tmp_path, content(track(1, amodal_segmentations=tube(bar(0, 9), *[bar(0, 10)] * 2))))
    pred = tmp_path / "pred.json"
    lists = {"segmentations": tube(bar(0, 10)), "amodal_segmentations": tube(bar(0, 10))}
    pred.write_text(json.dumps([prediction(0.5, **lists)]))
    return [f"--gt={gt}", f"--pred={pred}"]


def test_evaluate_prints_table_and_writes_report(files, tmp_path, capsys):
    output = tmp_path / "report.json"
    extra = ["--class-agnostic", "--occlusion-bins", "--visible-as-amodal"]
    assert evaluate.main([*files, "--task=video", f"--output={output}", *extra]) == 0
    rows = json.loads(output.read_text())["results"]
    assert set(rows) == {
        "visible",
        "visible_class_agnostic",
        "amodal",
        "amodal_class_agnostic",
        "amodal_lt50",
        "amodal_gt50",
        "visible_as_amodal",
    }
    assert rows["visible"]["AP"] == pytest.approx(100)
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)


def test_evaluate_strict_stops_with_a_message(files, tmp_path, capsys):
    assert evaluate.main([*files, "--strict", f"--output={tmp_path / 'r.json'}"]) == 1
    assert "outside the amodal mask" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_evaluate_absent_file_stops_with_a_message(files, capsys):
    assert evaluate.main([files[0], "--pred=absent.json"]) == 1
    assert "no such path absent.json" in capsys.readouterr().err


@pytest.mark.parametrize("entry", [3, [], {}, {"video_id": [1], "category_id": 0}])
def test_evaluate_malformed_tracks_stop_with_a_message(files, tmp_path, capsys, entry):
    video, category = {"id": 1, "file_name": "clip1"}, {"id": 0, "name": "fish"}
    tracks = {"videos": [video], "categories": [category], "annotations": [entry]}
    for data in (tracks, [entry]):
        (tmp_path / "pred.json").write_text(json.dumps(data))
        assert evaluate.main(files) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("evaluate.py: ")
        assert "pred.json" in line


def test_evaluate_skip_invalid_leaves_broken_tracks_out(files, tmp_path, capsys):
    write(tmp_path, content(track(1), track(2, category=99)))
    assert evaluate.main(files) == 1
    assert evaluate.main([*files, "--skip-invalid"]) == 0
    assert "1 true tracks" in capsys.readouterr().out


def test_evaluate_tracking_metrics_on_demand(files, tmp_path, capsys):
    report, table = tmp_path / "report.json", tmp_path / "report.csv"
    extra = ["--metrics=hota", "--boxes", "--score-threshold=0.6"]
    assert evaluate.main([*files, *extra, f"--output={report}", f"--csv={table}"]) == 0
    found = json.loads(report.read_text())
    assert found["results"] == {}
    assert list(found["tracking"]) == ["visible", "amodal", "amodal_box"]
    assert found["tracking"]["visible"]["class_average"]["CLR_FN"] == 3
    assert ",visible,class_average,,CLR_FN,3\n" in table.read_text()
    printed = capsys.readouterr().out
    assert "HOTA" in printed
    assert "AP50" not in printed
    assert evaluate.main([*files, "--metrics=ap,hota"]) == 0
    printed = capsys.readouterr().out
    assert "HOTA" in printed
    assert "AP50" in printed


def test_evaluate_unknown_metric_stops_with_a_message(files, capsys):
    assert evaluate.main([*files, "--metrics=ap,mota"]) == 1
    assert "got ['ap', 'mota']" in capsys.readouterr().err


@pytest.mark.parametrize("folder", golden_files("eval_*"))
def test_evaluate_golden_files_give_the_golden_ap(folder, tmp_path, capsys):
    output = tmp_path / "report.json"
    files = [f"--gt={folder / 'gt_video.json'}", f"--pred={folder / 'pred_video.json'}"]
    assert evaluate.main([*files, f"--output={output}"]) == 0
    expected = json.loads((folder / "expected.json").read_text())["video"]
    found = json.loads(output.read_text())["results"]
    for kind in ("visible", "amodal"):
        assert found[kind]["AP"] == pytest.approx(100 * expected[kind]["AP"], abs=1e-7)
