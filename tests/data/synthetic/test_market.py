import numpy as np
import pytest

from amodal2.data.datasets.categories import MARKET_CATEGORIES
from amodal2.data.synthetic.market import CATEGORIES, THINGS, build_market
from amodal2.data.synthetic.render import render_frame

SIZE = (96, 128)


@pytest.fixture(scope="module")
def pictures():
    scenes = [build_market(np.random.default_rng(seed), *SIZE) for seed in range(4)]
    return [(scene, render_frame(scene, 0, *SIZE)) for scene in scenes]


def test_categories_are_those_of_the_registered_datasets():
    assert CATEGORIES == MARKET_CATEGORIES


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)
def test_every_view_draws_an_individual_that_stands_on_its_origin(thing):
    for view in dict.fromkeys(thing.views):
        first, second = (view(np.random.default_rng(seed), 40.0) for seed in (1, 2))
        assert first.image.shape != second.image.shape or (first.image != second.image).any()
        assert abs(first.extent[3]) < 0.12
        assert first.extent[0] < 0 < first.extent[2]
        assert (first.image[..., 3] > 127).mean() > 0.1


def test_views_of_a_thing_look_different():
    for thing in THINGS:
        views = dict.fromkeys(thing.views)
        pictures = {view(np.random.default_rng(3), 40.0).image.tobytes() for view in views}
        assert len(pictures) == len(views) > 1


def test_build_market_every_thing_can_be_seen(pictures):
    for scene, frame in pictures:
        assert len(frame.visible) == len(scene.actors) > 0
        seen, whole = frame.visible.sum(axis=(1, 2)), frame.amodal.sum(axis=(1, 2))
        assert (seen >= 40).all()
        assert (seen >= 0.1 * whole).all()
        assert not (frame.visible & ~frame.amodal).any()


def test_build_market_nearer_things_hide_farther_ones(pictures):
    for _, frame in pictures:
        for place, n in enumerate(frame.order):
            nearer = frame.amodal[frame.order[:place]].any(axis=0)
            np.testing.assert_array_equal(frame.visible[n], frame.amodal[n] & ~nearer)


@pytest.mark.parametrize(
    ("size", "match"), [((40, 90), "64 pixels"), ((64, 256), "height / width")]
)
def test_build_market_bad_size_is_refused(size, match):
    with pytest.raises(ValueError, match=match):
        build_market(np.random.default_rng(0), *size)
