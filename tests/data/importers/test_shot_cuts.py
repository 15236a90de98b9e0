import sys
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from amodal2.data.importers import ObjectMasks, SourceVideo
from amodal2.data.importers.shot_cuts import find_cuts, split_at_cuts
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import MissingDependencyError
from tests.conftest import load_script


class BrightnessDetector:
    """What ``find_cuts`` needs of PySceneDetect: a cut where the blue channel changes."""

    def __init__(self, threshold, min_scene_len):
        self.threshold, self.last = threshold, None

    def process_frame(self, stamp, image):
        blue, self.last = self.last, int(image[0, 0, 0])
        return [stamp] if blue is not None and abs(blue - self.last) >= self.threshold else []

    def post_process(self, stamp):
        return []


@pytest.fixture(params=["fake", "real"])
def scenedetect(request, monkeypatch):
    if request.param == "real":
        return pytest.importorskip("scenedetect")
    fake = SimpleNamespace(
        ContentDetector=BrightnessDetector,
        FrameTimecode=lambda index, rate: SimpleNamespace(frame_num=index),
    )
    monkeypatch.setitem(sys.modules, "scenedetect", fake)
    return fake


def frames():
    noise = np.random.default_rng(0).integers(0, 90, (32, 48, 3), dtype=np.uint8)
    noise[0, 0] = 0
    return [noise] * 10 + [255 - noise] * 5 + [noise] * 6


@pytest.mark.usefixtures("scenedetect")
def test_find_cuts_gives_the_first_frame_of_every_later_shot():
    assert find_cuts(frames()) == [10, 15]
    assert find_cuts(frames()[:10]) == []
    assert find_cuts([]) == []


@pytest.mark.usefixtures("scenedetect")
def test_split_at_cuts_starts_every_object_anew(tmp_path):
    for index, image in enumerate(frames()):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    masks = ObjectMasks(encode_mask(np.ones((32, 48), bool)))
    video = SourceVideo("v", 32, 48, [f"{index}.png" for index in range(21)])
    video.tracks["a"] = ("fish", dict.fromkeys([3, 12], masks))
    report = Counter()
    shots = list(split_at_cuts([video], tmp_path, report))
    assert [shot.name for shot in shots] == [f"v (shot {number})" for number in (1, 2, 3)]
    assert [len(shot.file_names) for shot in shots] == [10, 5, 6]
    assert shots[1].file_names[0] == "10.png"
    assert [list(shot.tracks.get("a", ("", {}))[1]) for shot in shots] == [[3], [2], []]
    assert report["camera cuts at which videos were split"] == 2


@pytest.mark.usefixtures("scenedetect")
def test_split_at_cuts_leaves_a_video_of_one_shot_alone(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), frames()[0])
    video = SourceVideo("v", 32, 48, ["0.png"])
    assert list(split_at_cuts([video], tmp_path, Counter())) == [video]


def test_find_cuts_without_the_library_names_an_extra_that_exists(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'amodal2\[datasets\]'"):
        find_cuts([])
    assert any("scenedetect" in name for name in load_script("setup.py").EXTRAS["datasets"])
