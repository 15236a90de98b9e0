import json

import numpy as np
import pytest

from amodal2.data.importers import ObjectMasks, SourceVideo, VideoImport
from amodal2.structures.rle import encode_mask
from amodal2.utils.errors import AnnotationError


def rle(columns):
    mask = np.zeros((4, 6), dtype=bool)
    mask[:, columns] = True
    return encode_mask(mask)


def one_track(frames, length=3):
    video = SourceVideo("v", 4, 6, [f"{i}.png" for i in range(length)])
    video.tracks["a"] = ("fish", frames)
    return video


def write(tmp_path, importer):
    importer.write(tmp_path / "out.json")
    return json.loads((tmp_path / "out.json").read_text())["annotations"]


def test_add_visible_outside_amodal_is_cut_and_counted(tmp_path):
    importer = VideoImport()
    importer.add(one_track({0: ObjectMasks(rle([0, 1]), rle([1, 2, 3]))}))
    (track,) = write(tmp_path, importer)
    assert track["areas"][0] == 4
    assert track["occlusion_rates"][0] == pytest.approx(2 / 3)
    assert importer.report["visible pixels cut off outside the amodal mask"] == 4


def test_add_amodal_before_first_visible_frame_is_left_out(tmp_path):
    importer = VideoImport()
    frames = {
        0: ObjectMasks(None, rle([0])),
        1: ObjectMasks(rle([1])),
        2: ObjectMasks(None, rle([2])),
    }
    importer.add(one_track(frames))
    (track,) = write(tmp_path, importer)
    assert [mask is None for mask in track["amodal_segmentations"]] == [True, False, False]
    assert track["occlusion_rates"] == [None, 0.0, 1.0]
    assert importer.report["amodal masks left out, before the first visible frame"] == 1


def test_add_never_visible_track_is_left_out_and_counted(tmp_path):
    importer = VideoImport()
    video = one_track({0: ObjectMasks(rle([0]))})
    video.tracks["b"] = ("fish", {1: ObjectMasks(None, rle([3]))})
    importer.add(video)
    assert len(write(tmp_path, importer)) == 1
    assert importer.report["tracks left out, never visible"] == 1


def test_add_visible_only_writes_no_amodal_keys(tmp_path):
    importer = VideoImport(visible_only=True)
    importer.add(one_track({0: ObjectMasks(rle([0]))}))
    (track,) = write(tmp_path, importer)
    assert not [key for key in track if key.startswith(("amodal", "occlusion"))]


def test_add_unknown_category_names_video(tmp_path):
    with pytest.raises(AnnotationError, match=r"categories \['crab'\], got 'fish' in video 'v'"):
        VideoImport(["crab"]).add(one_track({0: ObjectMasks(rle([0]))}))


def test_write_without_tracks_is_an_error(tmp_path):
    importer = VideoImport()
    importer.add(SourceVideo("v", 4, 6, ["0.png"]))
    with pytest.raises(AnnotationError, match="at least one track, got none"):
        importer.write(tmp_path / "out.json")


def test_masks_second_category_of_an_object_is_an_error():
    video = SourceVideo("v", 4, 6, ["0.png"])
    video.masks(1, "fish", 0)
    with pytest.raises(AnnotationError, match="one category for object 1 of video 'v'"):
        video.masks(1, "crab", 0)
