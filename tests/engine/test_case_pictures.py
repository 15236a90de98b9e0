from __future__ import annotations

import cv2
import numpy as np
import pytest

from amodal2.engine.case_pictures import case_pictures
from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.image_protocols import evaluate_images
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from tests.structures.toy_images import found, image_dataset, thing
from tests.structures.toy_videos import LENGTH, SIZE, bar, dataset, prediction, track, tube

IMAGES = 8


@pytest.fixture
def frames(tmp_path):
    """Write grey pictures of all images and videos."""
    grey = np.full((*SIZE, 3), 128, np.uint8)
    for number in range(1, IMAGES + 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), grey)
        (tmp_path / f"clip{number}").mkdir()
        for t in range(LENGTH):
            cv2.imwrite(str(tmp_path / f"clip{number}" / f"{t}.png"), grey)
    return tmp_path


def panels(jpeg: bytes) -> list[np.ndarray]:
    """Return the three panels of a picture."""
    return np.array_split(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), 3, axis=1)


def colour(panel: np.ndarray) -> int:
    """Return how far a panel is from grey."""
    inner = panel[: panel.shape[0] // 2, 10:-10].astype(int)
    return int(np.ptp(inner, axis=2).max())


def test_case_pictures_shows_worst_and_best_images(frames):
    numbers = range(1, IMAGES + 1)
    truth = image_dataset(frames, *(thing(i, image=i) for i in numbers), images=IMAGES)
    records = [
        found(0.9, image=i, amodal_segm=bar(0, 10 - i // 2), visible_segm=bar(0, 5))
        for i in numbers
        if i != 5
    ]
    pictures = case_pictures(truth, records, evaluate_images(truth, records), frames)
    captions = [picture.caption for picture in pictures]
    assert [caption.split(",")[0] for caption in captions] == [
        "worst: 5.png", "worst: 8.png", "worst: 6.png",
        "best: 1.png", "best: 3.png", "best: 2.png",
    ]  # fmt: skip
    assert "AP of amodal 0.00 (coco)" in captions[0]
    plain, true, predicted = panels(pictures[0].jpeg)
    assert colour(plain) < 20 < 60 < colour(true)
    assert colour(predicted) < 20
    assert colour(panels(pictures[3].jpeg)[2]) > 60


def test_case_pictures_takes_the_frame_of_most_hidden_objects(frames):
    hidden = tube(bar(0, 10), bar(0, 10), bar(0, 20))
    truth = dataset(frames, track(1, amodal_segmentations=hidden))
    records = [prediction(0.9, segmentations=tube(bar(0, 10)), amodal_segmentations=hidden)]
    (picture,) = case_pictures(truth, records, evaluate_video_tracks(truth, records), frames)
    assert picture.caption.startswith("worst: video 1, frame 2, AP of amodal 100.00 (YTVIS")


def test_case_pictures_of_completions_names_the_metric(frames):
    truth = image_dataset(frames, thing(1))
    records = [{"gt_id": 1, "amodal_segm": bar(0, 8)}]
    (picture,) = case_pictures(truth, records, evaluate_completions(truth, records), frames)
    assert picture.caption == "worst: 1.png, full of amodal 80.00 (c2f_image)"
    assert colour(panels(picture.jpeg)[2]) > 60


def test_case_pictures_without_a_row_for_scenes_is_empty(frames):
    truth = dataset(frames, track(1))
    records = [prediction(0.9, segmentations=tube(bar(0, 10)))]
    report = evaluate_video_tracks(truth, records, metrics=("hota",))
    assert case_pictures(truth, records, report, frames) == []


def test_case_pictures_draw_amodal_masks_alone_as_whole_objects(frames):
    truth = dataset(frames, track(1, amodal_segmentations=tube(bar(0, 10), bar(0, 10), bar(0, 20))))
    masks = tube(bar(0, 8), bar(0, 9), bar(0, 15))
    drawn = []
    for kind in ("segmentations", "amodal_segmentations"):
        records = [prediction(0.9, **{kind: masks})]
        (picture,) = case_pictures(truth, records, evaluate_video_tracks(truth, records), frames)
        drawn.append(picture.jpeg)
    assert drawn[0] == drawn[1]
