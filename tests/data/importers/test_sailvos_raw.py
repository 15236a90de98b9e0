from collections import Counter

import cv2
import numpy as np
import pytest

from amodal2.data.importers.sailvos_raw import read_sailvos_raw
from amodal2.structures.rle import decode_rle
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import AnnotationError
from tests.datasets.test_prepare_images import run

SIZE = (4, 8)


@pytest.fixture
def split(tmp_path):
    """One clip of two frames: object 12 is half hidden by 3, which has masks in frame 0 only."""
    clip = tmp_path / "val" / "tonya_mcs_1"
    for name in ("images", "visible", "camera", "0012_Ped_Michael_2", "0003_prop_table"):
        (clip / name).mkdir(parents=True)
    for t in range(2):
        cv2.imwrite(str(clip / "images" / f"{t:06d}.bmp"), np.zeros((*SIZE, 3), np.uint8))
        seen = np.zeros(SIZE, np.int16)
        seen[:, :2], seen[:, 2:4] = 12, 3
        seen[0, 7] = 40
        np.save(clip / "visible" / f"{t:06d}.npy", seen)
        alone = np.zeros(SIZE, np.uint8)
        alone[:, :4] = 255
        cv2.imwrite(str(clip / "0012_Ped_Michael_2" / f"{t:06d}.png"), alone)
    table = np.zeros(SIZE, np.uint8)
    table[:, 2:4] = 255
    cv2.imwrite(str(clip / "0003_prop_table" / "000000.png"), table)
    return tmp_path / "val"


def columns(rle):
    return np.flatnonzero(decode_rle(rle)[0]).tolist()


def test_read_sailvos_raw_visible_from_the_map_and_amodal_alone(split):
    report = Counter()
    (video,) = read_sailvos_raw(split, split.parent, report)
    assert (video.name, video.height, video.width) == ("tonya_mcs_1", *SIZE)
    assert video.file_names[1] == "val/tonya_mcs_1/images/000001.bmp"
    category, frames = video.tracks[12]
    assert category == "object"
    assert [(columns(f.visible), columns(f.amodal)) for f in frames.values()] == [
        ([0, 1], [0, 1, 2, 3])
    ] * 2
    assert list(video.tracks[3][1]) == [0]
    assert report == {"clips": 1, "objects left out, seen but not rendered alone": 1}


def test_read_sailvos_raw_letters_of_folders_may_be_categories(split):
    (video,) = read_sailvos_raw(split, split, Counter(), folder_classes=True)
    assert {key: category for key, (category, _) in video.tracks.items()} == {
        12: "Ped_Michael",
        3: "prop_table",
    }


def test_read_sailvos_raw_compressed_maps_are_read(split):
    for path in (split / "tonya_mcs_1" / "visible").glob("*.npy"):
        np.savez_compressed(path.with_suffix(".npz"), np.load(path))
        path.unlink()
    (video,) = read_sailvos_raw(split, split, Counter())
    assert columns(video.tracks[12][1][1].visible) == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("visible/000001.npy", None, r"visible/000001\.npy for every frame.*tonya_mcs_1/visible"),
        ("visible/000001.npy", b"x", r"one array of NumPy.*000001\.npy"),
        ("images", None, "expected frames in images/"),
        ("0003_prop_table/000000.png", b"x", r"a mask of \(4, 8\) \(H, W\), got none.*000000\.png"),
    ],
)
def test_read_sailvos_raw_broken_clip_is_named(split, name, content, message):
    path = split / "tonya_mcs_1" / name
    for file in path.iterdir() if path.is_dir() else [path]:
        file.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        list(read_sailvos_raw(split, split, Counter()))


def test_read_sailvos_raw_map_of_other_numbers_is_named(split):
    path = split / "tonya_mcs_1" / "visible" / "000001.npy"
    np.save(path, np.zeros(SIZE))
    with pytest.raises(AnnotationError, match=r"integers \[H, W\], got float64.*000001\.npy"):
        list(read_sailvos_raw(split, split, Counter()))


def test_read_sailvos_raw_without_clips_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"<clip>/visible/000000\.npy"):
        list(read_sailvos_raw(tmp_path, tmp_path, Counter()))


def test_prepare_sailvos_raw_writes_one_split(split, caplog):
    caplog.set_level("INFO")
    root = split.parent
    assert run("prepare_sailvos", "--root", root, "--split", "val", "--raw", "val") == 0
    assert "clips: 41 published, 1 found" in caplog.text
    assert "1 objects left out, seen but not rendered alone" in caplog.text
    first, second = read_video_json(root / "raw_val.json", strict=True).annotations
    assert sorted([first["occlusion_rates"], second["occlusion_rates"]], key=str) == [
        [0.0, None],
        [0.5, 0.5],
    ]


def test_prepare_sailvos_raw_needs_one_split(split, capsys):
    with pytest.raises(SystemExit):
        run("prepare_sailvos", "--root", split.parent, "--raw", "val")
    assert "--raw needs one --split" in capsys.readouterr().err
