"""The spool gives what a computation with all masks in memory gives."""

from __future__ import annotations

import tracemalloc
from collections import deque

import numpy as np
import pytest
import torch

from amodal2.structures.clip import ClipOutput, resample_logits
from amodal2.structures.rle import decode_rle
from amodal2.structures.tube_spool import TubeSpool

SLOTS, CLASSES = 5, 3
GEOMETRIES = {
    "same-size": ((8, 10), (32, 40), (32, 40), (32, 40)),
    "padding-cut": ((8, 12), (32, 48), (27, 41), (27, 41)),
    "enlarged": ((8, 12), (32, 48), (27, 41), (59, 83)),
    "reduced": ((16, 24), (64, 96), (61, 90), (20, 31)),
    "one-pixel-logits": ((1, 1), (4, 4), (3, 4), (5, 7)),
}


def make_clips(
    geometry: str, lengths: tuple[int, ...] = (3, 3, 2), amodal: bool = True
) -> list[ClipOutput]:
    (h, w), padded, image, _ = GEOMETRIES[geometry]
    generator = torch.Generator().manual_seed(3)
    clips = []
    for length in lengths:
        logits = torch.randn(2, SLOTS, length, h, w, generator=generator) * 3
        logits[:, 0] = -1.0  # a slot without any mask
        if not clips:
            logits[0, 1] = -2.0  # hidden in the first clip
        clips.append(ClipOutput(logits[0], logits[1] if amodal else None, padded, image))
    return clips


def whole_logits(clips: list[ClipOutput], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Resample the logits [N, T, H, W] of both kinds to a size."""
    return {
        kind: torch.cat(
            [
                resample_logits(
                    getattr(clip, f"{kind}_logits"), clip.padded_size, clip.image_size, size
                )
                for clip in clips
            ],
            dim=1,
        ).numpy()
        for kind in ("visible", "amodal")
    }


def naive_masks(
    clips: list[ClipOutput], output: tuple[int, int], min_visible_px: int = 1, union: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return masks [N, T, H, W] of both kinds and each slot's mean probabilities."""
    masks = {kind: values > 0 for kind, values in whole_logits(clips, output).items()}
    seen = masks["visible"].reshape(SLOTS, masks["visible"].shape[1], -1).sum(-1) >= min_visible_px
    seen = np.maximum.accumulate(seen, axis=1)
    means = {}
    for kind, values in whole_logits(clips, clips[0].image_size).items():
        inside = values > 0
        if kind == "amodal":
            inside &= seen[..., None, None]
        total = (inside / (1 + np.exp(-values.astype(np.float64)))).sum((1, 2, 3))
        means[kind] = total / (inside.sum((1, 2, 3)) + 1e-6)
    if union:
        masks["amodal"] |= masks["visible"]
    for slot in range(SLOTS):
        for frame in range(masks["visible"].shape[1]):
            if masks["visible"][slot, frame].sum() >= min_visible_px:
                break
            masks["amodal"][slot, frame] = False
    return masks, means


def fill(
    clips: list[ClipOutput], output: tuple[int, int], min_visible_px: int = 1, union: bool = False
) -> TubeSpool:
    spool = TubeSpool(SLOTS, output, min_visible_px=min_visible_px, union_visible=union)
    for clip in clips:
        spool.add(clip)
    return spool


def class_scores() -> torch.Tensor:
    return torch.rand(SLOTS, CLASSES, generator=torch.Generator().manual_seed(1)) * 0.4


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("min_visible_px", "union"), [(1, False), (40, False), (1, True)])
def test_finish_random_clips_equals_whole_frames(geometry, min_visible_px, union):
    clips, output = make_clips(geometry), GEOMETRIES[geometry][3]
    masks, means = naive_masks(clips, output, min_visible_px, union)
    logits = whole_logits(clips, output)
    with fill(clips, output, min_visible_px, union) as spool:
        prediction = spool.finish(class_scores(), SLOTS * CLASSES, video_id=7)
    scores = class_scores().numpy()
    expected = {}
    for slot in range(SLOTS):
        mean = {kind: means[kind][slot] for kind in means}
        if masks["visible"][slot].any():
            for label in range(CLASSES):
                value = scores[slot, label]
                expected[value * mean["visible"]] = (slot, label, value * mean["amodal"])
    assert (prediction.video_id, prediction.height, prediction.width) == (7, *output)
    assert prediction.length == 8
    assert len(prediction.tracks) == len(expected)
    for track, (score, (slot, label, amodal_score)) in zip(
        prediction.tracks, sorted(expected.items(), reverse=True), strict=True
    ):
        assert track.category_id == label
        assert track.score == pytest.approx(score, rel=1e-4)
        assert track.amodal_score == pytest.approx(amodal_score, rel=1e-4)
        for kind in ("visible", "amodal"):
            for frame, rle in enumerate(getattr(track, kind)):
                wanted = masks[kind][slot, frame]
                got = np.zeros(output, bool) if rle is None else decode_rle(rle)
                certain = np.abs(logits[kind][slot, frame]) > 1e-4
                assert (rle is None) == (not got.any())
                np.testing.assert_array_equal(got[certain], wanted[certain])


def test_select_top_k_takes_best_pairs():
    clips = make_clips("same-size")
    scores = torch.zeros(SLOTS, CLASSES)
    scores[2] = torch.tensor([0.5, 0.4, 0.0])
    scores[3, 1] = 0.45
    with fill(clips, (32, 40)) as spool:
        pairs = spool.select(scores, 3)
        single = spool.select(scores, 3, one_class_per_slot=True)
        strict = spool.select(scores, 3, score_threshold=pairs[1].score)
        named = spool.select(scores, 1, category_ids=[10, 20, 30])
    assert {(track.slot, track.category_id) for track in pairs} == {(2, 0), (2, 1), (3, 1)}
    assert [track.id for track in pairs] == [1, 2, 3]
    assert [track.score for track in pairs] == sorted([t.score for t in pairs], reverse=True)
    assert {(track.slot, track.category_id) for track in single if track.score} == {(2, 0), (3, 1)}
    assert strict == pairs[:2]
    assert [track.category_id for track in named] == [10]


def test_iter_frames_and_iter_tube_equal_finish():
    clips = make_clips("padding-cut")
    with fill(clips, (27, 41)) as spool:
        tracks = spool.select(class_scores(), 6)
        loaded = spool.finish(class_scores(), 6).tracks
        frames = list(spool.iter_frames(tracks))
        tubes = [
            {kind: list(spool.iter_tube(t, kind)) for kind in ("visible", "amodal")} for t in tracks
        ]
    assert len(frames) == 8
    for track, full, tube in zip(tracks, loaded, tubes, strict=True):
        assert (tube["visible"], tube["amodal"]) == (full.visible, full.amodal)
        for frame, objects in enumerate(frames):
            own = [item for item in objects if item.id == track.id]
            got = (own[0].visible, own[0].amodal) if own else (None, None)
            assert got == (full.visible[frame], full.amodal[frame])


def test_iter_frames_interleaved_readers_do_not_disturb_each_other():
    with fill(make_clips("same-size"), (32, 40)) as spool:
        tracks = spool.select(class_scores(), 4)
        alone = list(spool.iter_frames(tracks))
        pairs = list(zip(spool.iter_frames(tracks), spool.iter_frames(tracks), strict=True))
    assert [first for first, _ in pairs] == alone
    assert [second for _, second in pairs] == alone


def test_finish_without_amodal_logits_has_no_amodal_masks():
    with fill(make_clips("same-size", amodal=False), (32, 40)) as spool:
        tracks = spool.finish(class_scores(), 4).tracks
    assert tracks
    assert all(track.amodal is None and track.amodal_score is None for track in tracks)


@pytest.mark.parametrize("union", [False, True])
def test_finish_amodal_only_keeps_every_frame_and_its_score(union):
    both = make_clips("padding-cut")
    clips = [ClipOutput(None, c.amodal_logits, c.padded_size, c.image_size) for c in both]
    swapped = [ClipOutput(c.amodal_logits, None, c.padded_size, c.image_size) for c in both]
    with (
        fill(clips, (27, 41), min_visible_px=9, union=union) as spool,
        fill(swapped, (27, 41)) as other,
    ):
        tracks = spool.finish(class_scores(), 6).tracks
        expected = other.finish(class_scores(), 6).tracks
        shown = list(spool.iter_frames(spool.select(class_scores(), 6)))
    assert tracks
    for track, visible in zip(tracks, expected, strict=True):
        assert track.visible is None
        assert track.amodal == visible.visible
        assert (track.score, track.amodal_score) == (visible.score, None)
    assert all(item.visible is None and item.amodal for frame in shown for item in frame)


def test_select_without_mask_quality_keeps_the_class_score():
    spool = TubeSpool(SLOTS, (32, 40), mask_quality=False)
    for clip in make_clips("same-size"):
        spool.add(clip)
    scores = class_scores()
    for track in spool.select(scores, 8):
        assert track.score == pytest.approx(float(scores[track.slot, track.category_id]))
        assert track.amodal_score is None


def test_finish_no_positive_logit_gives_no_track():
    logits = torch.full((SLOTS, 2, 8, 10), -1.0)
    with fill([ClipOutput(logits, logits, (32, 40), (32, 40))], (32, 40)) as spool:
        prediction = spool.finish(torch.ones(SLOTS, CLASSES), 4)
    assert prediction.tracks == []
    assert prediction.length == 2


def test_add_infinite_logits_keep_their_masks():
    logits = torch.full((1, 1, 4, 4), -torch.inf)
    logits[..., :2] = torch.inf
    spool = TubeSpool(1, (4, 4))
    spool.add(ClipOutput(logits, None, (4, 4), (4, 4)))
    track = spool.finish(torch.ones(1, 1), 1).tracks[0]
    assert track.score == pytest.approx(1.0)
    assert decode_rle(track.visible[0])[:, :2].all()
    assert not decode_rle(track.visible[0])[:, 2:].any()


def test_add_positive_logits_in_the_padding_give_no_mask():
    logits = torch.full((1, 1, 8, 8), -1.0)
    logits[..., 6:, 6:] = 5.0
    spool = TubeSpool(1, (16, 16))
    spool.add(ClipOutput(logits, logits, (32, 32), (16, 16)))
    assert spool.finish(torch.ones(1, 1), 1).tracks == []


def test_add_long_video_memory_grows_by_bytes_per_clip():
    clip = make_clips("same-size", (3,))[0]
    spool = TubeSpool(SLOTS, (32, 40))
    used = []
    tracemalloc.start()
    for count in range(1, 401):
        spool.add(clip)
        if count in (100, 400):
            deque(spool.iter_frames(spool.select(class_scores(), 10)), maxlen=0)
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert spool.length == 1200
    # Python and numpy keep some kilobytes of freed objects; one mask per clip would be 90 kB.
    assert used[1] - used[0] < 300 * 64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s, c: s.add(ClipOutput(c.visible_logits[:2], None, (32, 40), (32, 40))),
            "5 slots, got 2",
        ),
        (
            lambda s, c: s.add(ClipOutput(c.visible_logits, None, (32, 40), (32, 40))),
            "amodal logits",
        ),
        (
            lambda s, c: s.add(ClipOutput(None, c.amodal_logits, (32, 40), (32, 40))),
            "visible logits",
        ),
        (lambda s, c: s.select(torch.ones(2, 3), 1), r"class_scores \[5, K\]"),
        (lambda s, c: s.select(torch.ones(5, 3), 1, category_ids=[1]), "expected 3 category_ids"),
    ],
    ids=["slots", "no-amodal", "no-visible", "scores", "categories"],
)
def test_tube_spool_wrong_input_is_refused(call, message):
    clip = make_clips("same-size", (1,))[0]
    with fill([clip], (32, 40)) as spool, pytest.raises(ValueError, match=message):
        call(spool, clip)
