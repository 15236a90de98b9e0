import json

import numpy as np
import pytest

from amodal2.data.synthetic.statistics import has_vanished, measure_dataset
from amodal2.data.synthetic.writer import DatasetSpec, write_split
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.video_json import read_video_json


@pytest.mark.parametrize(
    ("visible", "amodal", "expected"),
    [
        ("1100011", "1111111", True),
        ("1100111", "1111111", False),
        ("0000111", "1111111", False),
        ("1110000", "1111111", False),
        ("1100011", "1101111", False),
        ("1000101", "1111111", True),
    ],
)
def test_has_vanished_needs_three_hidden_frames_between_sights(visible, amodal, expected):
    masks = (np.array([c == "1" for c in text]) for text in (visible, amodal))
    assert has_vanished(*masks, 3) is expected


def test_measure_dataset_counts_by_hand():
    def track(video_id, rates):
        return {
            "video_id": video_id,
            "segmentations": [{} if r is not None and r < 1 else None for r in rates],
            "amodal_segmentations": [{} if r is not None else None for r in rates],
            "occlusion_rates": rates,
        }

    content = {
        "videos": [{"id": 1}, {"id": 2}],
        "annotations": [track(1, [0.0, 1.0, 1.0, 1.0, 0.1]), track(1, [None, 0.0, 0.2, 0.3, None])],
    }
    found = measure_dataset(content)
    assert (found.videos, found.tracks, found.fewest, found.most) == (2, 2, 0, 2)
    assert found.hidden == pytest.approx(4 / 8)
    assert found.vanishing == pytest.approx(1 / 2)
    assert "50.0 %" in str(found)


def test_measure_dataset_empty_is_zero():
    found = measure_dataset({"videos": [], "annotations": []})
    assert (found.hidden, found.vanishing, found.most) == (0.0, 0.0, 0)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    spec = DatasetSpec(seed=11, width=120, height=80, frames=32, format="png")
    return write_split(spec, tmp_path_factory.mktemp("aquarium"), "train", 24)


@pytest.mark.slow
def test_generated_videos_are_hard_enough(generated):
    found = measure_dataset(json.loads(generated.read_text()))
    assert found.fewest >= 5
    assert found.most <= 12
    assert 0.3 <= found.hidden <= 0.45
    assert 0.1 <= found.vanishing <= 0.3


@pytest.mark.slow
def test_generated_dense_videos_hide_half(tmp_path):
    spec = DatasetSpec("aquarium_dense", seed=11, width=96, height=64, frames=32, format="png")
    found = measure_dataset(json.loads(write_split(spec, tmp_path, "train", 8).read_text()))
    assert 0.42 <= found.hidden <= 0.6
    assert found.vanishing >= 0.15


@pytest.mark.slow
def test_generated_visible_masks_are_poor_amodal_predictions(generated):
    dataset = read_video_json(generated)
    predictions = [
        {
            "video_id": track["video_id"],
            "category_id": track["category_id"],
            "score": 1.0,
            "segmentations": track["segmentations"],
        }
        for track in json.loads(generated.read_text())["annotations"]
    ]
    report = evaluate_video_tracks(dataset, predictions, visible_as_amodal=True)
    assert report.rows["visible"].percent()["AP"] == pytest.approx(100)
    assert 30 <= report.rows["visible_as_amodal"].percent()["AP"] <= 65


@pytest.mark.slow
def test_generated_tracks_are_more_than_slivers(generated):
    tracks = json.loads(generated.read_text())["annotations"]
    largest = [max(area or 0 for area in track["areas"]) for track in tracks]
    assert min(largest) >= 0.002 * 120**2
