"""Visible masks from files of every kind."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from amodal2.structures.rle import decode_rle, encode_mask
from amodal2.utils.errors import AnnotationError
from amodal2.video.mask_input import read_masks

SIZE = (6, 8)


def two_objects():
    """Return masks [2, 3, H, W]: one in all frames, one from the second frame on."""
    masks = np.zeros((2, 3, *SIZE), bool)
    for t in range(3):
        masks[0, t, 1:4, t : t + 2] = True
        masks[1, t, 4:6, 5:8] = t > 0
    return masks


def rle(mask):
    return encode_mask(mask) if mask.any() else None


def ytvis(masks, **changes):
    tracks = [
        {"id": n + 1, "video_id": 4, "category_id": 2, "score": 0.5, "segmentations": tube}
        for n, tube in enumerate([[rle(mask) for mask in tube] for tube in masks])
    ]
    video = {"id": 4, "height": SIZE[0], "width": SIZE[1], "length": 3, "file_name": "a.mp4"}
    return {
        "videos": [video],
        "categories": [{"id": 2, "name": "fish"}],
        "annotations": tracks,
        **changes,
    }


def coco(masks, key="track_id"):
    images = [
        {"id": 10 + t, "height": SIZE[0], "width": SIZE[1], "file_name": f"{t}.png"}
        for t in range(3)
    ]
    records = [
        {"id": 1, "image_id": 10 + t, "category_id": 1, key: n + 5, "segmentation": rle(mask)}
        for n, tube in enumerate(masks)
        for t, mask in enumerate(tube)
        if mask.any()
    ]
    return {"images": images, "annotations": records}


def write(folder, masks, kind):
    """Write the masks in one of the layouts and return the path."""
    folder.mkdir(exist_ok=True)
    if kind in ("ytvis", "coco"):
        file = folder / "masks.json"
        file.write_text(json.dumps(ytvis(masks) if kind == "ytvis" else coco(masks)))
        return file
    if kind == "maps":
        for t in range(3):
            ids = masks[0, t] * np.uint8(3) + masks[1, t] * np.uint8(7)
            image = Image.fromarray(ids, "P")
            image.putpalette([0, 0, 0] * 3 + [200, 0, 0] * 253)
            image.save(folder / f"{t:05d}.png")
    else:
        for n, t in np.ndindex(2, 3):
            for inner, mask in (("visible", masks[n, t]), ("amodal", ~masks[n, t])):
                place = folder / f"id_{n}" / inner
                place.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(place / f"{t:06d}.png"), mask * np.uint8(255))
    return folder


@pytest.mark.parametrize("kind", ["ytvis", "coco", "maps", "folders"])
def test_read_masks_every_layout(tmp_path, kind):
    masks = two_objects()
    found = read_masks(write(tmp_path / "in", masks, kind), 3)
    assert [track.id for track in found.tracks] == [1, 2]
    for track, tube in zip(found.tracks, masks, strict=True):
        empty = np.zeros(SIZE, bool)
        got = [empty if mask is None else decode_rle(mask) for mask in track.visible]
        np.testing.assert_array_equal(got, tube)
    assert found.tracks[1].visible[0] is None


def test_read_masks_keeps_names_and_scores(tmp_path):
    found = read_masks(write(tmp_path, two_objects(), "ytvis"), 3)
    assert found.category_names == {2: "fish"}
    assert [track.score for track in found.tracks] == [0.5, 0.5]
    assert read_masks(write(tmp_path / "m", two_objects(), "maps"), 3).object_names == {
        1: "3",
        2: "7",
    }


def test_read_masks_names_of_the_frames_count_before_numbers(tmp_path):
    masks = two_objects()
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{10 * t}.png"), masks[0, t] * np.uint8(1))
    found = read_masks(tmp_path, 3, ["0", "10", "20"])
    assert all(mask is not None for mask in found.tracks[0].visible)
    with pytest.raises(AnnotationError, match=r"numbered 0 to 2, got 10\.png"):
        read_masks(tmp_path, 3)


def test_read_masks_chooses_a_video(tmp_path):
    data = ytvis(two_objects())
    data["videos"].append({**data["videos"][0], "id": 5, "file_name": "b.mp4"})
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match="expected one video, got 2 such entries"):
        read_masks(tmp_path / "a.json", 3)
    assert len(read_masks(tmp_path / "a.json", 3, video="4").tracks) == 2
    assert len(read_masks(tmp_path / "a.json", 3, video="b.mp4").tracks) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a JSON object with a list of annotations"),
        ({"annotations": []}, "expected 'videos' or 'images', got neither"),
        ({"annotations": [], "images": []}, "expected images, got none"),
        (coco(two_objects(), key="other"), "one of .'track_id', 'instance_id', 'object_id'."),
        (ytvis(two_objects()[:, :2]), "expected 3 masks per object as there are frames, got 2"),
        (
            ytvis(two_objects(), videos=[{"id": 4, "height": 0, "width": 8, "length": 3}]),
            "expected pixels above 0, got 0",
        ),
        (
            ytvis(two_objects(), videos=[{"id": 4, "height": 9, "width": 8, "length": 3}]),
            r"expected RLE size \[9, 8\]",
        ),
    ],
)
def test_read_masks_bad_json_raises(tmp_path, data, message):
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=message):
        read_masks(tmp_path / "a.json", 3)


def test_read_masks_bad_images_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        read_masks(tmp_path / "absent", 3)
    with pytest.raises(AnnotationError, match="expected images of masks, got none"):
        read_masks(tmp_path, 3)
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(AnnotationError, match="expected an image, got"):
        read_masks(tmp_path, 3)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(AnnotationError, match="or one with a palette, got 3 channels"):
        read_masks(tmp_path, 3)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros(SIZE, np.uint8))
    cv2.imwrite(str(tmp_path / "a0.png"), np.zeros(SIZE, np.uint8))
    with pytest.raises(AnnotationError, match="expected one image per frame, got two for frame 0"):
        read_masks(tmp_path, 3)
