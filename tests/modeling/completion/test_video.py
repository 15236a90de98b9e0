"""Whole videos through a completer: windows, rules about frames, bad input."""

import logging

import numpy as np
import pytest
import torch

from amodal2.modeling.completion import (
    COMPLETER_REGISTRY,
    Completer,
    Completion,
    CompletionSettings,
    CropRule,
    build_completer,
    complete_video,
)
from amodal2.modeling.completion.video import split_windows
from amodal2.structures.rle import encode_mask
from amodal2.structures.track import Track
from amodal2.utils.optical_flow import open_flow
from tests.modeling.completion.clips import (
    ArraySource,
    KnownFlow,
    decode_tube,
    hidden_block,
    make_track,
    rectangle,
)

SIZE = (24, 32)


class EchoCompleter(Completer):
    """Gives the visible mask back from patches of one size, and notes what it saw."""

    rule = CropRule((48, 48), enlarge=1.5, follow="visible")
    needs = frozenset({"frames", "flow", "depth"})
    window, overlap = 4, 2

    def __init__(self, samples=1, value=1.0, content=False):
        self.samples, self.value, self.content = samples, value, content
        self.clips = []

    def complete(self, clip):
        self.clips.append(clip)
        amodal = clip.visible.float()[None].repeat(self.samples, 1, 1, 1, 1) * self.value
        return Completion(amodal, clip.frames[None] if self.content else None)


def source_of(length, size=SIZE):
    return ArraySource(np.random.default_rng(0).integers(0, 255, (length, *size, 3), np.uint8))


def complete(completer, tracks, length, size=SIZE, **options):
    options.setdefault("flow", KnownFlow((0, 0)))
    options.setdefault("depth", lambda frame, t: np.ones(frame.shape[:2]))
    return complete_video(completer, source_of(length, size), tracks, **options)


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(1, 4, 0), (9, 4, 2), (8, 3, 1), (4, 4, 2)]
)
def test_split_windows_counts_every_frame_once(length, window, overlap):
    parts = list(split_windows(length, window, overlap))
    assert [t for _, _, keep in parts for t in keep] == list(range(length))
    assert all(start <= keep[0] and keep[-1] < stop <= length for start, stop, keep in parts)
    assert all(stop - start <= window for start, stop, _ in parts)


@pytest.mark.parametrize("follow", ["visible", "motion"])
def test_complete_video_patches_come_back_where_they_were(follow):
    masks = np.stack([rectangle(SIZE, 3 + t, 2 * t, 9, 11) for t in range(9)])
    completer = EchoCompleter()
    completer.rule = CropRule((48, 48), enlarge=1.5, follow=follow)
    flow = KnownFlow((2, 1))
    settings = CompletionSettings(compose="raw")
    found = complete(completer, [make_track(1, masks)], 9, settings=settings, flow=flow)[0]
    np.testing.assert_array_equal(decode_tube(found.tracks[0].amodal, SIZE), masks)
    assert len(flow.calls) == len(set(flow.calls)) == 16  # windows share what they overlap in


def test_complete_video_flow_is_in_patch_pixels():
    masks = np.stack([rectangle(SIZE, 4, 4, 8, 16)] * 2)
    completer = EchoCompleter()
    completer.rule = CropRule((32, 32), follow="visible")
    complete(completer, [make_track(1, masks)], 2, flow=KnownFlow((1.0, 1.0)))
    forward = completer.clips[0].forward_flow
    assert forward[0, 0, :, 16, 16].tolist() == [2.0, 4.0]  # twice as wide, four times as high
    assert forward[0, 1].abs().max() == 0


def test_complete_video_others_are_all_other_objects():
    block, _, bar = hidden_block()
    completer = EchoCompleter()
    completer.rule = CropRule()
    tracks = [make_track(1, block & ~bar), make_track(2, bar), make_track(3, block[::-1] * 0)]
    complete(completer, tracks, 8, settings=CompletionSettings(objects_at_once=1))
    first = completer.clips[0]
    top, left, bottom, right = first.windows[0, 0].int().tolist()
    assert torch.equal(first.others[0], torch.from_numpy(bar[:4, top:bottom, left:right]))


def test_complete_video_result_does_not_depend_on_chunks():
    _, visible, bar = hidden_block()
    tracks = [make_track(1, visible), make_track(2, bar)]
    results = [
        complete(EchoCompleter(), tracks, 8, settings=CompletionSettings(objects_at_once=n))
        for n in (1, 2)
    ]
    assert results[0] == results[1]


def test_complete_video_reads_the_video_once():
    source = source_of(9)
    track = make_track(1, np.stack([rectangle(SIZE, 2, 2, 4, 4)] * 9))
    frames = []
    complete_video(build_completer("modal"), source, [track], on_frame=lambda: frames.append(1))
    assert (source.passes, len(frames)) == (1, 9)


def test_complete_video_before_first_visible_frame_is_empty():
    masks = np.stack([rectangle(SIZE, 2, 2, 4, 4)] * 6)
    masks[:2] = False
    found = complete(build_completer("convex"), [make_track(1, masks)], 6)[0]
    assert [rle is None for rle in found.tracks[0].amodal] == [True] * 2 + [False] * 4


@pytest.mark.parametrize("empty", [None, encode_mask(np.zeros(SIZE, bool))])
def test_complete_video_object_never_visible_keeps_an_empty_track(caplog, empty):
    tracks = [Track(1, 1, 1.0, [empty] * 3)]
    with caplog.at_level(logging.WARNING):
        found = complete(build_completer("convex"), tracks, 3)[0]
    assert found.tracks[0].amodal == [None] * 3
    assert "1 objects are never visible: [1]" in caplog.text


@pytest.mark.parametrize("name", ["modal", "convex", "union"])
def test_complete_video_one_frame(name):
    mask = rectangle(SIZE, 2, 2, 4, 4)[None]
    found = complete(build_completer(name), [make_track(1, mask)], 1)[0]
    np.testing.assert_array_equal(decode_tube(found.tracks[0].amodal, SIZE), mask)


def test_complete_video_without_tracks():
    found = complete(build_completer("modal"), [], 3)
    assert [(one.length, one.tracks) for one in found] == [(3, [])]


@pytest.mark.parametrize(
    ("compose", "expected"), [("raw", "block"), ("visible", "both"), ("others", "hidden")]
)
def test_complete_video_composition(compose, expected):
    block, _, bar = hidden_block()
    elsewhere = np.stack([rectangle(SIZE, 1, 25, 4, 4)] * 8)  # visible, but not predicted

    class Fixed(Completer):
        def complete(self, clip):
            top, left, bottom, right = clip.windows[0, 0].int().tolist()
            return Completion(
                torch.from_numpy(block[None, None, :, top:bottom, left:right]).float()
            )

    visible = (block & ~bar) | (elsewhere & ~bar)
    tracks = [make_track(1, visible), make_track(2, bar)]
    found = complete(Fixed(), tracks, 8, settings=CompletionSettings(compose=compose))[0]
    truth = {
        "block": block,
        "both": block | visible,
        "hidden": np.where(bar, block, visible),
    }[expected]
    seen = np.argmax(visible.any(axis=(1, 2)))
    got = decode_tube(found.tracks[0].amodal, SIZE)
    np.testing.assert_array_equal(got[seen:], truth[seen:])


def test_complete_video_samples_and_content():
    masks = np.stack([rectangle(SIZE, 3, 4, 9, 11)] * 5)
    painted = []
    found = complete(
        EchoCompleter(samples=3, content=True),
        [make_track(7, masks)],
        5,
        on_content=lambda *arguments: painted.append(arguments),
    )
    assert len(found) == 3
    assert [(number, t) for number, t, _ in painted] == [(7, t) for t in range(5)]
    image = painted[0][2]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 3], 255 * masks[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"size": (24, 30)},
            "expected masks of 30x24 like the frames, got 32x24 in frame 0 of obj",
        ),
        ({"length": 4}, "expected 5 frames as there are masks, got 4 in array"),
        ({"length": 6}, "expected 5 frames as there are masks, got more in array"),
        ({"flow": None}, "expected flow for EchoCompleter, got none"),
        ({"depth": None}, "expected depth for EchoCompleter, got none"),
        ({"depth": lambda frame, t: np.ones((3, 3))}, r"expected depth \[24, 32\] like the frames"),
        (
            {"completer": EchoCompleter(value=float("nan"))},
            "expected finite probabilities from Ech",
        ),
    ],
)
def test_complete_video_bad_input_raises(change, message):
    masks = np.stack([rectangle(SIZE, 3, 4, 9, 11)] * 5)
    arguments = {"completer": EchoCompleter(), "length": 5, **change}
    with pytest.raises(ValueError, match=message):
        complete(tracks=[make_track(1, masks)], **arguments)


def test_complete_video_flow_of_another_size_raises(tmp_path):
    masks = np.stack([rectangle(SIZE, 3, 4, 9, 11)] * 5)
    for t in range(4):
        np.save(tmp_path / f"{t}.npy", np.zeros((12, 16, 2), np.float32))
    with pytest.raises(ValueError, match="expected flow of 32x24 like the frames, got 16x12"):
        complete(EchoCompleter(), [make_track(1, masks)], 5, flow=open_flow(tmp_path))


def test_complete_video_wrong_shape_of_a_completer_raises():
    class Wrong(Completer):
        def complete(self, clip):
            return Completion(clip.visible.float())

    masks = np.stack([rectangle(SIZE, 3, 4, 9, 11)] * 2)
    with pytest.raises(ValueError, match=r"expected amodal masks \[K, 1, 2, .* from Wrong"):
        complete(Wrong(), [make_track(1, masks)], 2)


def test_complete_video_tracks_without_visible_masks_raise():
    track = make_track(1, np.zeros((3, *SIZE), bool))
    track.visible = None
    with pytest.raises(ValueError, match="expected visible masks for every frame of every track"):
        complete(build_completer("modal"), [track], 3)


def test_completion_settings_wrong_values_raise():
    with pytest.raises(ValueError, match="expected compose of"):
        CompletionSettings(compose="sum")


def test_build_completer_unknown_names_raise():
    with pytest.raises(
        ValueError,
        match=r"expected one of \[.*'convex', .*'union'\], got 'magic'",
    ):
        build_completer("magic")
    with pytest.raises(ValueError, match=r"expected options of union, got .*'x': 1"):
        build_completer("union", x=1)


def test_registry_holds_functions_with_names():
    assert {"modal", "convex", "union"} <= {name for name, _ in COMPLETER_REGISTRY}


def test_complete_video_only_some_tracks_the_others_still_hide():
    block, visible, bar = hidden_block()
    tracks = [make_track(1, visible), make_track(2, bar)]
    both = complete(build_completer("union"), tracks, len(block))[0]
    (alone,) = complete(build_completer("union"), tracks, len(block), only={1})[0].tracks
    assert alone == both.tracks[0]
    assert alone.amodal != alone.visible
