"""Objects that move or leave, and what appears behind them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from amodal2.structures.track import Track
from amodal2.utils.errors import VideoError
from amodal2.video.content import ContentWriter, read_content
from amodal2.video.rearrange import Edits, back_to_front, rearrange, shifted
from tests.modeling.completion.clips import ArraySource, hidden_block, make_track

BLOCK, BAR = (90, 200, 40), (220, 30, 30)


def scene() -> tuple[ArraySource, list[Track], dict[tuple[int, int], np.ndarray], np.ndarray]:
    """Return a video of a bar that passes a block, its tracks, its clips, and the empty scene."""
    block, visible, bar = hidden_block()
    empty = np.random.default_rng(0).integers(0, 80, (24, 32, 3), dtype=np.uint8)
    frames = np.stack([empty] * len(block))
    frames[block], frames[bar] = BLOCK, BAR
    tracks, clips = [], {}
    pairs = ((1, visible, block, BLOCK), (2, bar, bar, BAR))
    for number, seen, whole, colour in pairs:
        track = make_track(number, seen)
        track.amodal = make_track(number, whole).visible
        tracks.append(track)
        for t in range(len(block)):
            image = np.zeros((24, 32, 4), np.uint8)
            image[whole[t]] = (*colour, 255)
            clips[number, t] = image
    return ArraySource(frames), tracks, clips, empty


def run(removed=(), moved=None):
    source, tracks, clips, empty = scene()
    edits = Edits(frozenset(removed), moved or {})
    found = rearrange(source, tracks, lambda n, t: clips.get((n, t)), edits)
    return np.stack([frame for frame, _ in found]), empty


def test_rearrange_removed_object_shows_what_it_hid() -> None:
    frames, empty = run(removed=[2])
    block, _, _ = hidden_block()
    for frame, mask in zip(frames, block, strict=True):
        expected = empty.copy()
        expected[mask] = BLOCK
        # The block stands still, so the background at its blurred edge is never known.
        edge = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~mask
        np.testing.assert_array_equal(frame[~edge], expected[~edge])


def test_rearrange_moved_object_stays_behind_what_hid_it() -> None:
    frames, _ = run(moved={1: (0, 6)})
    block, visible, bar = hidden_block()
    for t, frame in enumerate(frames):
        moved = np.roll(block[t], 6, axis=0)
        hidden_somewhere = (block[t] & ~visible[t]).any()
        assert (frame[moved & ~bar[t]] == BLOCK).all()
        if hidden_somewhere:
            assert (frame[bar[t]] == BAR).all()
        left = visible[t] & ~moved
        assert not (frame[left] == BLOCK).all(-1).any()


def test_back_to_front_is_the_order_of_the_masks() -> None:
    block, visible, bar = hidden_block()
    masks = {1: (visible[4], block[4]), 2: (bar[4], bar[4])}
    assert back_to_front(masks) == [1, 2]
    circle = {1: masks[1], 2: (bar[4] & ~block[4], bar[4])}
    assert sorted(back_to_front(circle)) == [1, 2]


def test_shifted_loses_what_leaves() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    found = shifted(image, (1, -1))
    assert not found[1].any()
    assert not found[0, 0].any()
    np.testing.assert_array_equal(found[0, 1:], image[1, :2])


@pytest.mark.parametrize(("removed", "moved"), [((), {}), ((3,), {}), ((1,), {1: (2, 2)})])
def test_rearrange_edits_that_make_no_sense_are_refused(removed, moved) -> None:
    with pytest.raises(ValueError, match=r"expected objects of \[1, 2\]"):
        run(removed, moved)


def test_rearrange_without_amodal_masks_is_refused() -> None:
    source, tracks, _, _ = scene()
    tracks[0].amodal = None
    with pytest.raises(ValueError, match="expected visible and amodal masks"):
        list(rearrange(source, tracks, lambda n, t: None, Edits(frozenset([2]), {})))


def test_content_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    writer = ContentWriter(tmp_path)
    writer(3, 12, image)
    assert writer.written == 1
    np.testing.assert_array_equal(read_content(tmp_path, 3, 12, (5, 7)), image)
    assert read_content(tmp_path, 3, 13, (5, 7)) is None
    with pytest.raises(VideoError, match="expected a uint8 RGBA image of 8x5"):
        read_content(tmp_path, 3, 12, (5, 8))
    (tmp_path / "id_003" / "000012.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match="got no image"):
        read_content(tmp_path, 3, 12, (5, 7))
