"""Exports: the readers and the evaluator take them."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import decode_rle
from amodal2.structures.video_json import read_video_json
from amodal2.video.exports import write_coco, write_ytvis
from amodal2.video.predictor import predict_video
from amodal2.video.streaming import PredictorSettings
from tests.conftest import load_script
from tests.utils.sample_videos import sample_frame
from tests.video.colour_model import CATEGORY_NAMES, ColourModel
from tests.video.scripted_model import SIZE, ScriptedModel
from tests.video.test_streaming import frame as scripted_frame

NAMES = {"category_names": CATEGORY_NAMES}


def make_tracks(count: int = 7, **kinds):
    frames = ((sample_frame(index), index / 25) for index in range(count))
    settings = PredictorSettings(category_ids=list(CATEGORY_NAMES))
    return predict_video(ColourModel(**kinds), frames, settings)


def scripted_tracks():
    """A track that hides, one that is gone for two frames, one that comes late."""
    script = ["VVHHV", "VV..V", "..VVV"]
    frames = ((scripted_frame(index), index / 25) for index in range(5))
    settings = PredictorSettings(category_ids=list(CATEGORY_NAMES))
    return predict_video(ScriptedModel(script), frames, settings)


def evaluate(task: str, truth, predictions, report) -> dict:
    arguments = ["--task", task, "--gt", truth, "--pred", predictions, "--output", report]
    assert load_script("tools/evaluate.py").main([str(argument) for argument in arguments]) == 0
    content = json.loads(report.read_text())
    return content["results"] if task == "video" else content["reports"][0]["results"]


@pytest.mark.parametrize("make", [make_tracks, scripted_tracks])
def test_write_coco_evaluator_reads_it_back(tmp_path, make):
    with make() as tracks:
        write_coco(tracks, tmp_path, name="a", **NAMES)
        frames = [{item.id: item for item in objects} for objects in tracks.frames()]
    dataset = read_image_json(tmp_path / "coco.json", strict=True)
    assert [image["file_name"] for image in dataset.images[:2]] == ["a/000000.png", "a/000001.png"]
    assert len(dataset.annotations) == sum(map(len, frames)) > 9
    for record in dataset.annotations:
        item = frames[record["image_id"] - 1][record["track_id"]]
        assert (record["visible_segm"], record["amodal_segm"]) == (item.visible, item.amodal)
        area = 0 if item.visible is None else int(decode_rle(item.visible).sum())
        assert record["visible_area"] == area
        assert record["area"] == int(decode_rle(item.amodal).sum())
        assert record["occlusion_rate"] == pytest.approx(1 - area / record["area"])
    results = tmp_path / "coco_results.json"
    found = evaluate("image", tmp_path / "coco.json", results, tmp_path / "report.json")
    assert found["amodal"]["AP"] == pytest.approx(100)
    hidden = any(item.visible is None for objects in frames for item in objects.values())
    assert hidden or found["visible"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("make", [make_tracks, scripted_tracks])
def test_write_ytvis_evaluator_reads_it_back(tmp_path, make):
    path = tmp_path / "ytvis.json"
    with make() as tracks:
        write_ytvis(tracks, path, file_name="a.mp4", **NAMES)
        prediction = tracks.to_prediction(1)
    dataset = read_video_json(path, strict=True)
    for record, track in zip(dataset.annotations, prediction.tracks, strict=True):
        assert (record["id"], record["score"]) == (track.id, track.score)
        assert record["segmentations"] == track.visible
        assert record["amodal_segmentations"] == track.amodal
        for frame, (seen, whole) in enumerate(zip(track.visible, track.amodal, strict=True)):
            areas = [None if rle is None else int(decode_rle(rle).sum()) for rle in (seen, whole)]
            assert [record["areas"][frame], record["amodal_areas"][frame]] == areas
            rate = None if whole is None else 1 - (areas[0] or 0) / areas[1]
            assert record["occlusion_rates"][frame] == pytest.approx(rate)
            assert (record["bboxes"][frame] is None) == (seen is None)
    found = evaluate("video", path, path, tmp_path / "report.json")
    assert [found[kind]["AP"] for kind in ("visible", "amodal")] == pytest.approx([100, 100])


def test_exports_name_the_files_of_the_frames(tmp_path):
    files = [f"clip/{index}.jpg" for index in range(7)]
    with make_tracks() as tracks:
        write_coco(tracks, tmp_path, name="clip", file_names=files, **NAMES)
        path = tmp_path / "ytvis.json"
        write_ytvis(tracks, path, file_name="clip", file_names=files, **NAMES)
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == files
    assert json.loads(path.read_text())["videos"][0]["file_names"] == files


def test_exports_visible_mask_stands_for_a_missing_amodal_one(tmp_path):
    model = ScriptedModel(["VVV"])
    real = model.forward_clip

    def forward(frames, state):
        clip, state = real(frames, state)
        clip.amodal_logits[:] = -1.0
        return clip, state

    model.forward_clip = forward
    frames = ((scripted_frame(index), 0.0) for index in range(3))
    settings = PredictorSettings(category_ids=list(CATEGORY_NAMES))
    with predict_video(model, frames, settings) as tracks:
        write_coco(tracks, tmp_path, name="a", **NAMES)
        write_ytvis(tracks, tmp_path / "ytvis.json", file_name="a.mp4", **NAMES)
    objects = read_image_json(tmp_path / "coco.json", strict=True).annotations
    assert [item["occlusion_rate"] for item in objects] == [0, 0, 0]
    (track,) = read_video_json(tmp_path / "ytvis.json", strict=True).annotations
    assert track["amodal_segmentations"] == track["segmentations"]
    assert track["amodal_segmentations"][0]["size"] == list(SIZE)


@pytest.mark.parametrize(("visible", "amodal"), [(True, False), (False, True)])
def test_exports_leave_out_what_is_not_predicted(tmp_path, visible, amodal):
    with make_tracks(visible=visible, amodal=amodal) as tracks:
        write_coco(tracks, tmp_path, name="a", **NAMES)
        write_ytvis(tracks, tmp_path / "ytvis.json", file_name="a.mp4", **NAMES)
    record = json.loads((tmp_path / "coco.json").read_text())["annotations"][0]
    tube = json.loads((tmp_path / "ytvis.json").read_text())["annotations"][0]
    result = json.loads((tmp_path / "coco_results.json").read_text())[0]
    for keys in (record, result):
        assert ("visible_segm" in keys, "amodal_segm" in keys) == (visible, amodal)
    assert ("segmentations" in tube, "amodal_bboxes" in tube) == (visible, amodal)
    assert "occlusion_rate" not in record
    assert "occlusion_rates" not in tube
    assert len(read_image_json(tmp_path / "coco.json").annotations) == 14


def test_exports_memory_does_not_hold_the_masks(tmp_path):
    peaks, sizes = [], []
    for count in (20, 200):
        with make_tracks(count) as tracks:
            tracemalloc.start()
            write_coco(tracks, tmp_path, name="a", **NAMES)
            write_ytvis(tracks, tmp_path / "ytvis.json", file_name="a.mp4", **NAMES)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob("*.json")))
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 5
