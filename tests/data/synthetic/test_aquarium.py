import numpy as np
import pytest

from amodal2.data.synthetic.aquarium import CATEGORIES, build_aquarium


@pytest.fixture(scope="module")
def scenes():
    return [build_aquarium(np.random.default_rng(seed), 8, 48, 72) for seed in range(3)]


def test_build_aquarium_has_fish_and_scenery(scenes):
    for scene in scenes:
        kinds = [actor.category_id for actor in scene.actors]
        assert 5 <= len(scene.objects()) <= 12
        assert set(kinds) - {None} <= set(CATEGORIES)
        assert kinds.count(None) >= 3


def test_build_aquarium_depths_are_strictly_ordered(scenes):
    for scene in scenes:
        for t in range(scene.length):
            depths = [float(actor.trajectory.depth[t]) for actor in scene.actors]
            assert len(set(depths)) == len(depths)


def test_build_aquarium_fish_are_large_enough_to_segment(scenes):
    for scene in scenes:
        for index in scene.objects():
            assert (scene.actors[index].trajectory.scale > 0.15).all()


@pytest.mark.parametrize(
    ("frames", "height", "width", "match"),
    [
        (0, 64, 96, "frames >= 1"),
        (4, 16, 96, "at least 32 pixels"),
        (4, 64, 400, "height / width"),
    ],
)
def test_build_aquarium_bad_size_is_refused(frames, height, width, match):
    with pytest.raises(ValueError, match=match):
        build_aquarium(np.random.default_rng(0), frames, height, width)
