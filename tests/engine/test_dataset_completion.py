"""Completion of whole annotation files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal2.engine.completion import TrackCompletion
from amodal2.engine.dataset_completion import (
    Scene,
    add_visible,
    annotated_scenes,
    complete_scene,
    completion_records,
    keep_objects,
    object_records,
    predicted_scenes,
    read_truth,
    track_records,
)
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.image_predictions import check_image_predictions
from amodal2.modeling.completion import CompletionSettings
from amodal2.structures import encode_mask
from amodal2.structures.rle import decode_rle, rle_area
from amodal2.structures.track import Track
from amodal2.utils.errors import VideoError
from tests.engine.toy import make_videos
from tests.modeling.c2f_seg import tiny

CATEGORIES = [{"id": 0, "name": "near"}, {"id": 1, "name": "far"}]


def write_images(folder: Path) -> Path:
    """Write two images of two squares, one of which hides a part of the other."""
    entries, annotations = [], []
    for item in tiny.images(folder):
        entry = {key: item[key] for key in ("height", "width")}
        name = Path(item["file_name"]).name
        entries.append({"id": item["image_id"], "file_name": name, **entry})
        annotations += [{**r, "image_id": item["image_id"]} for r in item["annotations"]]
    content = {"images": entries, "categories": CATEGORIES, "annotations": annotations}
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


def write_videos(folder: Path, count: int = 2) -> Path:
    """Write videos of two squares, one of which hides parts of the other."""
    entries, annotations = [], []
    for video in make_videos(folder, count):
        names = [str(Path(name).relative_to(folder)) for name in video["file_names"]]
        entry = {key: video[key] for key in ("height", "width", "length")}
        entries.append({"id": video["video_id"], "file_names": names, **entry})
        for record in video["annotations"]:
            number = 10 * video["video_id"] + record["id"]
            annotations.append({**record, "id": number, "video_id": video["video_id"]})
    content = {"videos": entries, "categories": CATEGORIES, "annotations": annotations}
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


def predictions(dataset, score=0.9):
    """Return the annotated visible masks of all but the first object as predicted tracks."""
    keys = ("video_id", "category_id", "segmentations")
    return [{key: r[key] for key in keys} | {"score": score} for r in dataset.annotations[1:]]


def image_predictions(dataset):
    """Return the annotated visible masks of all but the first object as predicted objects."""
    keys = ("image_id", "category_id", "visible_segm")
    return [{key: r[key] for key in keys} | {"score": 0.9} for r in dataset.annotations[1:]]


def build(name):
    return TrackCompletion.build(name, [], CompletionSettings(compose="raw"), "dis")


def test_images_are_scenes_of_one_frame(tmp_path):
    dataset = read_truth(write_images(tmp_path))
    scenes = annotated_scenes(dataset, tmp_path)
    assert [scene.id for scene in scenes] == [1, 2]
    records = [
        record
        for scene in scenes
        for record in completion_records(
            scene, [complete_scene(build("convex"), scene)[0]], image=True
        )
    ]
    assert [record["gt_id"] for record in records] == [10, 11, 20, 21]
    found = evaluate_completions(dataset, records, protocols=["c2f_image"]).percent()["c2f_image"]
    # The hull of what is seen of the far square, an L, holds half of its hidden corner.
    assert 20 < found["occ"] < 80
    assert found["full"] > 80


def test_predicted_objects_of_images_are_judged_where_they_show_true_ones(tmp_path):
    dataset = read_truth(write_images(tmp_path))
    own = [*image_predictions(dataset)]
    nothing = {**own[0], "visible_segm": None}
    scenes = predicted_scenes(dataset, tmp_path, [nothing, *own])
    assert [scene.objects for scene in scenes] == [{11: 1}, {20: 1, 21: 2}]
    assert [r["id"] for r in keep_objects(dataset, scenes).annotations] == [11, 20, 21]
    tracks = complete_scene(build("convex"), scenes[1])[0]
    found = object_records(scenes[1], tracks)
    checked, _ = check_image_predictions(found, dataset)
    assert [r["visible_segm"] for r in checked] == [r["visible_segm"] for r in own[1:]]
    assert [r["score"] for r in checked] == [0.9, 0.9]
    area = [(rle_area(r["visible_segm"]), rle_area(r["amodal_segm"])) for r in checked]
    assert all(visible <= amodal for visible, amodal in area)
    assert any(visible < amodal for visible, amodal in area)


def test_predicted_objects_without_visible_masks_are_refused(tmp_path):
    dataset = read_truth(write_images(tmp_path))
    records = [{"image_id": 1, "category_id": 1, "score": 1.0, "amodal_segm": None}]
    with pytest.raises(ValueError, match="predictions with 'visible_segm', got others"):
        predicted_scenes(dataset, tmp_path, records)


def test_stored_flow_ends_before_the_last_frame(tmp_path):
    file = write_videos(tmp_path, 1)
    content = json.loads(file.read_text())
    video = content["videos"][0]
    last = video["length"] - 1
    video["flow_files"] = [*(f"{number}.npy" for number in range(last)), None]
    file.write_text(json.dumps(content))
    flow = annotated_scenes(read_truth(file), tmp_path)[0].flow
    field = np.full((video["height"], video["width"], 2), 2.0, np.float32)
    np.save(tmp_path / f"{last - 1}.npy", field)
    frame = np.zeros((*field.shape[:2], 3), np.uint8)
    assert np.array_equal(flow(frame, frame, last - 1, 1), field)
    with pytest.raises(ValueError, match="forward"):
        flow(frame, frame, last, 1)


@pytest.mark.parametrize("write", [write_images, write_videos])
def test_the_first_scenes_can_be_taken_alone(write, tmp_path):
    dataset = read_truth(write(tmp_path), 1)
    assert len(annotated_scenes(dataset, tmp_path)) == 1
    assert len(dataset.annotations) == 2


def test_predicted_tracks_are_judged_where_they_show_an_object(tmp_path):
    dataset = read_truth(write_videos(tmp_path))
    scenes = predicted_scenes(dataset, tmp_path, predictions(dataset))
    assert [scene.objects for scene in scenes] == [{12: 1}, {21: 1, 22: 2}]
    judged = keep_objects(dataset, scenes)
    assert [r["id"] for r in judged.annotations] == [12, 21, 22]
    samples = [complete_scene(build("modal"), scene) for scene in scenes]
    records = completion_records(scenes[1], samples[1])
    assert [record["gt_id"] for record in records] == [21, 22]
    assert records[1]["amodal_segmentations"] == dataset.annotations[3]["segmentations"]
    tracks = track_records(scenes[0], samples[0][0])
    assert [(r["video_id"], r["score"]) for r in tracks] == [(1, 0.9)]
    scored = [{**one, "amodal_score": 0.7} for one in predictions(dataset)]
    own = predicted_scenes(dataset, tmp_path, scored)[0]
    assert [r["amodal_score"] for r in track_records(own, own.tracks)] == [0.7]
    assert "amodal_score" not in track_records(own, complete_scene(build("modal"), own)[0])[0]
    assert predicted_scenes(dataset, tmp_path, predictions(dataset), 0.95)[0].tracks == []


def test_predictions_without_visible_masks_are_refused(tmp_path):
    dataset = read_truth(write_videos(tmp_path, 1))
    records = [{"video_id": 1, "category_id": 0, "score": 1.0, "amodal_segmentations": []}]
    with pytest.raises(ValueError, match="predictions with 'segmentations'"):
        predicted_scenes(dataset, tmp_path, records)


def test_add_visible_joins_the_masks_of_each_frame():
    masks = np.zeros((2, 3, 4), bool)
    masks[0, 0], masks[1, :, 1] = True, True
    one, other = (encode_mask(mask) for mask in masks)
    (track,) = add_visible([Track(1, 0, 1.0, [one, other, None], [other, None, None])])
    assert np.array_equal(decode_rle(track.amodal[0]), masks[0] | masks[1])
    assert track.amodal[1:] == [other, None]


def test_true_boxes_are_those_of_the_amodal_masks():
    mask, empty = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    mask[1:3, 2:5] = True
    scene = Scene(1, [], [], truth={3: [encode_mask(mask), encode_mask(empty), None]})
    assert scene.true_boxes() == {3: [(2, 1, 3, 2), None, None]}


def test_true_depth_is_the_layers_of_the_order():
    near, far = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    near[:, :2], far[:, 2:4] = True, True
    visible = {1: [encode_mask(far)], 2: [encode_mask(near)]}
    scene = Scene(7, [], [], order=[[2, 1, 9]], visible=visible)
    depth = scene.true_depth()(np.zeros((4, 5, 3), np.uint8), 0)
    assert depth[0].tolist() == [1, 1, 0.5, 0.5, 0]
    with pytest.raises(VideoError, match="expected the depth_order of video 7"):
        Scene(7, [], []).true_depth()
