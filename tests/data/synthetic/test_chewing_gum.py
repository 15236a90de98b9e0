"""The Chewing Gum videos and their files."""

import json

import cv2
import numpy as np
import pytest

from amodal2.data.synthetic.chewing_gum import _POOL, make_chewing_gum
from amodal2.data.synthetic.gum_writer import (
    GumSpec,
    gum_video,
    write_gum_arrays,
    write_gum_split,
)
from amodal2.structures.rle import decode_rle
from amodal2.structures.video_json import read_video_json
from tests.conftest import load_script


@pytest.fixture(scope="module", params=["paper", "official"])
def videos(request):
    return request.param, [gum_video(GumSpec(request.param), "test", i) for i in range(12)]


def test_pool_is_the_published_circle():
    assert len({tuple(point) for point in _POOL.tolist()}) == 44
    assert _POOL[:12].tolist()[-2:] == [[-7, -1], [-8, 0]]
    assert (_POOL[33].tolist(), _POOL[43].tolist()) == ([8, 0], [1, -7])
    assert np.abs(np.diff(_POOL, axis=0, append=_POOL[:1])).max() == 1


def test_make_chewing_gum_walks_round_in_32_frames(videos):
    for video in videos[1]:
        np.testing.assert_array_equal(video.amodal[:, 32:], video.amodal[:, :8])
        assert (video.amodal[0] == video.amodal[0, :1]).all()
        rows, columns = np.where(video.amodal[1].any(axis=0))
        assert (rows.min() >= 9, rows.max() <= 41) == (True, True)
        assert (columns.min() >= 12, columns.max() <= 44) == (True, True)


def test_make_chewing_gum_every_part_is_seen_only_without_the_square(videos):
    variant, made = videos
    hidden = []
    for video in made:
        bottom = video.bottom
        assert (video.visible[1 - bottom] == video.amodal[1 - bottom]).all()
        assert not (video.visible[0] & video.visible[1]).any()
        shape = video.amodal[bottom]
        if bottom == 0:
            hidden.append(1 - video.visible[0].any(axis=0).sum() / shape[0].sum())
    if variant == "paper":
        assert max(hidden) == 0
    else:
        assert np.mean(hidden) > 0.1


def test_make_chewing_gum_flow_carries_the_colours(videos):
    for video in videos[1]:
        for t, step, flow in ((3, 1, video.forward), (9, -1, video.backward)):
            rows, columns = np.where(video.visible[1, t])
            moved = rows + flow[t, rows, columns, 1], columns + flow[t, rows, columns, 0]
            assert video.amodal[1, t + step][moved].all()
            shown = video.visible[1, t + step][moved]
            own, new = video.images[t, rows, columns], video.images[t + step][moved]
            np.testing.assert_array_equal(own[shown], new[shown])
        if videos[0] == "paper":  # else the square moves too
            assert not video.forward[:, ~video.amodal.any(axis=(0, 1))].any()


def test_make_chewing_gum_mean_occlusion_is_the_published_one():
    for variant, expected in (("paper", 0.23), ("official", 0.46)):
        rates = []
        for index in range(60):
            video = gum_video(GumSpec(variant), "train", index)
            areas = [m[video.bottom].sum() for m in (video.visible, video.amodal)]
            rates.append(1 - areas[0] / areas[1])
        assert abs(np.mean(rates) - expected) < 0.04


def test_gum_video_depends_on_seed_split_and_index():
    spec = GumSpec("paper", 3)
    first = gum_video(spec, "train", 1).images
    np.testing.assert_array_equal(first, gum_video(spec, "train", 1).images)
    for other in (gum_video(spec, "train", 2), gum_video(spec, "val", 1)):
        assert (first != other.images).any()


def test_write_gum_split_reads_back(tmp_path):
    spec = GumSpec("paper", 1, 5)
    file = write_gum_split(spec, tmp_path, "test", 2)
    dataset, made = read_video_json(file, strict=True), gum_video(spec, "test", 1)
    tracks = [track for track in dataset.annotations if track["video_id"] == 2]
    for n, track in enumerate(tracks):
        for key, truth in (("segmentations", made.visible), ("amodal_segmentations", made.amodal)):
            got = [decode_rle(rle) for rle in track[key]]
            np.testing.assert_array_equal(got, truth[n])
    entry = dataset.videos[1]
    image = cv2.imread(str(tmp_path / entry["file_names"][3]))[..., ::-1]
    np.testing.assert_array_equal(image, made.images[3])
    np.testing.assert_array_equal(np.load(tmp_path / entry["flow_file"])["forward"], made.forward)
    assert entry["depth_order"][0] == [tracks[1 - made.bottom]["id"], tracks[made.bottom]["id"]]


def test_write_gum_arrays_has_the_same_videos(tmp_path):
    spec = GumSpec("official", 1, 4)
    write_gum_arrays(spec, tmp_path / "a.npz", "val", 2)
    content = np.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(content["images"][1], gum_video(spec, "val", 1).images)
    assert content["visible"].shape == (2, 2, 4, 50, 56)


def test_prepare_chewing_gum_writes_the_splits(tmp_path):
    script = load_script("datasets/prepare_chewing_gum.py")
    counts = ["--train", "1", "--val", "0", "--test", "2", "--frames", "3"]
    assert script.main(["--out", str(tmp_path), *counts]) == 0
    assert json.loads((tmp_path / "test.json").read_text())["info"]["videos"] == 2
    assert not (tmp_path / "val.json").exists()
    assert script.main(["--out", str(tmp_path / "n"), *counts, "--npz"]) == 0
    assert np.load(tmp_path / "n" / "train.npz")["images"].shape == (1, 3, 50, 56, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: GumSpec("other"),
        lambda: GumSpec(seed=-1),
        lambda: gum_video(GumSpec(), "dev", 0),
        lambda: make_chewing_gum(np.random.default_rng(0), frames=0),
    ],
)
def test_chewing_gum_wrong_values_raise(call):
    with pytest.raises(ValueError, match="expected a"):
        call()
