"""The completers without training."""

import numpy as np
import pytest

from amodal2.modeling.completion import CompletionSettings, build_completer, complete_video
from amodal2.modeling.completion.ordering import convex_hull
from tests.modeling.completion.clips import (
    ArraySource,
    KnownFlow,
    decode_tube,
    hidden_block,
    make_track,
    rectangle,
)

SIZE = (24, 32)


def complete(name, visible, others, flow=(0, 0), **options):
    source = ArraySource(np.zeros((len(visible), *SIZE, 3), np.uint8))
    tracks = [make_track(1, visible), make_track(2, others)]
    found = complete_video(
        build_completer(name, **options),
        source,
        tracks,
        CompletionSettings(compose="raw"),
        flow=KnownFlow(flow),
    )
    return decode_tube(found[0].tracks[0].amodal, SIZE)


def test_convex_hull_fills_a_notch_and_keeps_all_pixels():
    mask = rectangle(SIZE, 4, 4, 8, 8)
    notched = mask & ~rectangle(SIZE, 6, 8, 3, 4)
    np.testing.assert_array_equal(convex_hull(notched), mask)
    ragged = np.random.default_rng(0).random(SIZE) < 0.05
    assert (convex_hull(ragged) >= ragged).all()
    assert not convex_hull(np.zeros(SIZE, bool)).any()


def test_modal_gives_the_visible_mask():
    _, visible, bar = hidden_block()
    np.testing.assert_array_equal(complete("modal", visible, bar), visible)


def test_union_recovers_what_another_frame_shows():
    block, visible, bar = hidden_block()
    assert (block & ~visible).any()
    np.testing.assert_array_equal(complete("union", visible, bar), block)


def test_union_follows_the_motion():
    moving = np.stack([rectangle(SIZE, 8, 6 + 2 * t, 8, 8) for t in range(8)])
    bar = np.stack([rectangle(SIZE, 0, 16, 24, 3)] * 8)
    got = complete("union", moving & ~bar, bar, flow=(2, 0))
    np.testing.assert_array_equal(got, moving)


@pytest.mark.parametrize(("inside", "expected"), [(True, False), (False, True)])
def test_union_evidence_needs_an_occluder(inside, expected):
    visible = np.stack([rectangle(SIZE, 8, 8, 8, 8)] * 3)
    visible[1, 8:16, 12:16] = False  # nothing lies over what is missing
    got = complete("union", visible, visible[::-1] * 0, inside_others=inside)
    assert got[1, 10, 14] == expected


def test_convex_r_takes_the_hull_under_occluders_only():
    """A bar lies over a block whose lower corner is missing; something behind fills that corner."""
    block = rectangle(SIZE, 4, 4, 12, 12) & ~rectangle(SIZE, 12, 12, 4, 4)
    bar = rectangle(SIZE, 0, 8, 24, 3)
    behind = rectangle(SIZE, 12, 12, 6, 8) & ~block
    visible, others = (block & ~bar)[None], bar[None]
    source = ArraySource(np.zeros((1, *SIZE, 3), np.uint8))
    tracks = [make_track(1, visible), make_track(2, others), make_track(3, behind[None])]
    settings = CompletionSettings(compose="raw")
    found = complete_video(build_completer("convex_r"), source, tracks, settings)[0]
    got = decode_tube(found.tracks[0].amodal, SIZE)[0]
    np.testing.assert_array_equal(got & bar, convex_hull(block & ~bar) & bar)
    assert (got & ~bar <= visible[0] | behind).all()
    np.testing.assert_array_equal(decode_tube(found.tracks[1].amodal, SIZE)[0], bar)
