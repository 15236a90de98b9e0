from __future__ import annotations

import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from amodal2.evaluation.video_amodal import PREDICTIONS_FILE, REPORT_FILE, VideoAmodalEvaluator
from amodal2.structures.track import Track, VideoPrediction
from tests.structures.toy_videos import CRAB, FISH, LENGTH, SIZE, bar, content, track, tube, write

NAME = "toy_v1_amodal_evaluator"
AMODAL = tube(bar(0, 20))


@pytest.fixture
def name(tmp_path):
    """Register the metadata of two videos with one track each."""
    tracks = track(1, amodal_segmentations=AMODAL), track(2, 2, CRAB, amodal_segmentations=AMODAL)
    path = write(tmp_path, content(*tracks, videos=2))
    MetadataCatalog.get(NAME).set(json_file=str(path), evaluator_type="video_amodal")
    yield NAME
    MetadataCatalog.pop(NAME)


def output(video: int, index: int, amodal: list | None = AMODAL) -> dict:
    """Return what a model returns for one video; ``index`` is the contiguous class."""
    found = Track(1, index, 0.5, tube(bar(0, 10)), amodal)
    return {"video_id": video, "prediction": VideoPrediction(video, *SIZE, LENGTH, [found])}


def feed(evaluator: VideoAmodalEvaluator, *outputs: dict) -> None:
    for one in outputs:
        evaluator.process([{"video_id": one["video_id"]}], [one])


def test_video_amodal_evaluator_perfect_tracks_score_100(name, tmp_path):
    evaluator = VideoAmodalEvaluator(name, tmp_path / "out", distributed=False)
    evaluator.reset()
    feed(evaluator, output(2, 1), output(1, 0))
    results = evaluator.evaluate()
    assert list(results) == [
        *("visible", "visible_lt50", "visible_gt50"),
        *("amodal", "amodal_lt50", "amodal_gt50"),
    ]
    assert results["visible"]["AP"] == pytest.approx(100)
    assert results["amodal"]["AR1"] == pytest.approx(100)
    assert "APl" not in results["amodal"]
    assert results["amodal_gt50"] == {}
    records = json.loads((tmp_path / "out" / PREDICTIONS_FILE).read_text())
    assert [(r["video_id"], r["category_id"]) for r in records] == [(1, FISH), (2, CRAB)]
    assert json.loads((tmp_path / "out" / REPORT_FILE).read_text()) == evaluator.report.to_dict()
    assert evaluator.report.samplers == {}  # the IoU of all pairs would stay in memory


def test_video_amodal_evaluator_tracking_joins_the_rows(name, tmp_path):
    options = {"metrics": ["ap", "hota"], "boxes": True, "score_threshold": 0.6}
    evaluator = VideoAmodalEvaluator(name, tmp_path, distributed=False, **options)
    feed(evaluator, output(2, 1), output(1, 0))
    results = evaluator.evaluate()
    assert results["visible"]["AP"] == pytest.approx(100)
    assert results["visible"]["HOTA"] == 0  # the score of the tracks is .5
    assert (results["amodal_box"]["AP"], results["amodal_box"]["IDSW"]) == (pytest.approx(100), 0)
    assert results["visible_lt50"]["IDF1"] == 0
    assert set(results["visible_gt50"]) == set()


def test_video_amodal_evaluator_unpredicted_kind_is_absent(name):
    evaluator = VideoAmodalEvaluator(name, distributed=False)
    feed(evaluator, output(1, 0, amodal=None), output(2, 1, amodal=None))
    assert list(evaluator.evaluate()) == ["visible", "visible_lt50", "visible_gt50"]


def test_video_amodal_evaluator_reset_forgets(name):
    evaluator = VideoAmodalEvaluator(name, distributed=False)
    feed(evaluator, output(1, 0))
    evaluator.reset()
    assert evaluator.evaluate()["visible"]["AP"] == 0


def test_video_amodal_evaluator_joins_the_ranks_on_the_main_process(name, monkeypatch):
    first, second = VideoAmodalEvaluator(name), VideoAmodalEvaluator(name)
    feed(first, output(2, 1))
    feed(second, output(1, 0))
    parts = []
    monkeypatch.setattr(comm, "gather", lambda part, dst: parts.append(part) or parts)
    monkeypatch.setattr(comm, "is_main_process", lambda: len(parts) == 2)
    assert first.evaluate() == {}
    assert second.evaluate()["visible"]["AP"] == pytest.approx(100)


def test_video_amodal_evaluator_without_annotations_writes_predictions_only(tmp_path, name):
    write(tmp_path, content(videos=2))
    evaluator = VideoAmodalEvaluator(name, tmp_path / "out", distributed=False)
    feed(evaluator, output(1, 0))
    assert evaluator.evaluate() == {}
    assert (tmp_path / "out" / PREDICTIONS_FILE).is_file()
    assert not (tmp_path / "out" / REPORT_FILE).exists()


def test_video_amodal_evaluator_class_index_out_of_range_raises(name):
    evaluator = VideoAmodalEvaluator(name, distributed=False)
    feed(evaluator, output(1, 2))
    with pytest.raises(ValueError, match=r"class indices below 2.*got 2 in video 1.*NUM_CLASSES"):
        evaluator.evaluate()


def test_video_amodal_evaluator_output_of_another_video_raises(name):
    evaluator = VideoAmodalEvaluator(name)
    with pytest.raises(ValueError, match="tracks of video 2, got those of video 1"):
        evaluator.process([{"video_id": 2}], [output(1, 0)])


def test_video_amodal_evaluator_unregistered_dataset_raises():
    with pytest.raises(ValueError, match="register_video_amodal_instances"):
        VideoAmodalEvaluator("toy_unknown")
    MetadataCatalog.pop("toy_unknown")
