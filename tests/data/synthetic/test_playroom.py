import json
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest

from amodal2.data.synthetic.playroom import build_playroom
from amodal2.data.synthetic.ray_render import render_playroom
from amodal2.data.synthetic.statistics import measure_dataset
from amodal2.data.synthetic.writer import DatasetSpec, build_scene, write_split
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import MissingDependencyError
from tests.data.synthetic.playrooms import needs_physics
from tests.data.synthetic.test_writer import contents

SMALL = DatasetSpec(
    "playroom", seed=3, width=48, height=40, frames=4, format="png", flow=True, depth=True
)
FULL = DatasetSpec("playroom", seed=11, width=64, height=64, frames=24, format="png", fps=12)


@needs_physics
def test_build_playroom_has_ten_to_twenty_toys_of_many_kinds():
    scenes = [build_playroom(np.random.default_rng(s), 1, 48, 48) for s in range(6)]
    counts = [len(scene.category_ids) for scene in scenes]
    assert min(counts) >= 10
    assert max(counts) <= 20
    assert min(len(set(scene.category_ids)) for scene in scenes) >= 8


@needs_physics
def test_camera_orbits_the_toys():
    scene = build_playroom(np.random.default_rng(0), 24, 48, 48)
    arms = scene.orbit.places - scene.orbit.target
    assert np.ptp(np.linalg.norm(arms, axis=1)) < 1e-9
    turns = np.diff(np.unwrap(np.arctan2(arms[:, 1], arms[:, 0])))
    assert np.ptp(turns) < 1e-9
    assert 0.4 < abs(turns.sum()) < 1.5
    x, y, _ = scene.camera(5, 40, 48).project(scene.orbit.target[:, None])
    np.testing.assert_allclose([x[0], y[0]], [23.5, 19.5])


@needs_physics
@pytest.mark.parametrize(("frames", "height", "width"), [(0, 48, 48), (2, 20, 48), (2, 40, 96)])
def test_build_playroom_bad_size_is_refused(frames, height, width):
    with pytest.raises(ValueError, match="build_playroom: expected"):
        build_playroom(np.random.default_rng(0), frames, height, width)


@needs_physics
def test_write_split_of_a_playroom_same_seed_same_bytes(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        write_split(SMALL, tmp_path / name, "train", 2, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    video = json.loads((tmp_path / "one" / "train.json").read_text())["videos"][1]
    frame = render_playroom(build_scene(SMALL, "train", 1), 2, 40, 48)
    depth = np.load(tmp_path / "one" / video["depth_files"][2])["depth"]
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, frame.depth)
    assert len(video["depth_files"]) == 4


@needs_physics
def test_write_split_depth_that_is_lost_is_noticed(tmp_path):
    write_split(SMALL, tmp_path, "val", 1)
    (tmp_path / "depth/val_00000/00003.npz").unlink()
    with pytest.raises(FileExistsError, match="missing files"):
        write_split(SMALL, tmp_path, "val", 1)


def test_build_playroom_without_the_engine_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingDependencyError, match=r"amodal2\[physics\]"):
        build_scene(SMALL, "train", 0)


@needs_physics
def test_labels_of_a_video_agree_with_depth_and_flow():
    scene = build_scene(FULL, "train", 0)
    assert scene.motion.touches.sum() // 2 >= 5
    frames = [render_playroom(scene, t, 64, 64, flow=True) for t in range(6, 12)]
    for now, then in pairwise(frames):
        hidden = now.amodal & ~now.visible
        rank = {n: place for place, n in enumerate(now.order)}
        pairs = [
            (i, j, int((now.visible[i] & hidden[j]).sum()))
            for i in rank
            for j in rank
            if i != j and (now.visible[i] & hidden[j]).any()
        ]
        agreeing = sum(area for i, j, area in pairs if rank[i] < rank[j])
        assert agreeing >= 0.98 * sum(area for _, _, area in pairs)
        for n in rank:
            y, x = np.nonzero(now.visible[n])
            goal = np.rint(np.stack([x, y], axis=1) + now.flow[y, x]).astype(int)
            goal = goal[((goal >= 0) & (goal < 64)).all(axis=1)]
            grown = cv2.dilate(then.amodal[n].astype(np.uint8), np.ones((3, 3), np.uint8))
            assert grown[goal[:, 1], goal[:, 0]].all()


@needs_physics
@pytest.mark.slow
def test_generated_playrooms_hide_much(tmp_path):
    target = write_split(FULL, tmp_path, "train", 10)
    dataset = read_video_json(target)
    content = json.loads(target.read_text())
    found = measure_dataset(content)
    rates = [r for a in content["annotations"] for r in a["occlusion_rates"] if r is not None]
    assert len(dataset.videos) == 10
    assert found.fewest >= 9
    assert found.most <= 20
    assert 0.3 <= found.hidden <= 0.5
    assert 0.02 <= np.mean(np.asarray(rates) == 1) <= 0.12
    assert found.vanishing >= 0.03
