"""C2F-Seg behind the interface of completers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal2.modeling.completion import (
    COMPLETER_REGISTRY,
    CompletionSettings,
    ObjectClip,
    build_completer,
    complete_video,
)
from amodal2.structures.rle import decode_rle
from tests.modeling.c2f_seg import tiny
from tests.modeling.completion.clips import ArraySource, make_track, rectangle

SIZE = (48, 64)


@pytest.fixture(scope="module", params=[0, 2], ids=["image", "video"])
def model(request):
    torch.manual_seed(0)
    return tiny.build("C2FSeg", "MODEL.C2F_SEG.WINDOW", request.param).eval()


def clip(objects, frames):
    count = objects * frames
    visible = tiny.discs(count).unflatten(0, (objects, frames))
    images = torch.rand(count, 3, tiny.SIDE, tiny.SIDE).unflatten(0, (objects, frames))
    windows = torch.zeros(objects, frames, 4)
    return ObjectClip(visible, torch.zeros_like(visible), windows, frames=images)


def test_completer_is_registered_and_cuts_patches_of_the_models_size(model):
    assert "c2f_seg" in COMPLETER_REGISTRY
    completer = build_completer("c2f_seg", model=model)
    assert (completer.rule.size, completer.rule.enlarge) == ((tiny.SIDE, tiny.SIDE), 2.0)
    assert completer.needs == {"frames"}
    video = model.model.window > 0
    assert (completer.window, completer.overlap) == ((4, 1) if video else (64, 0))


def test_completer_gives_what_the_model_gives(model):
    given = clip(2, 3)
    found = build_completer("c2f_seg", model=model, patches=4).complete(given)
    found.check(given, "c2f_seg")
    for number in range(2):
        frames = 3 if model.model.window else 1
        alone = model.complete(given.frames[number], given.visible[number], frames=frames)
        torch.testing.assert_close(found.amodal[0, number], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7])
def test_completer_completes_videos_longer_and_shorter_than_its_window(model, length):
    masks = np.stack([rectangle(SIZE, 10, 10 + t, 20, 20) for t in range(length)])
    source = ArraySource(np.random.default_rng(0).integers(0, 255, (length, *SIZE, 3), np.uint8))
    completer = build_completer("c2f_seg", model=model)
    (found,) = complete_video(
        completer, source, [make_track(1, masks)], CompletionSettings(threshold=0.0)
    )
    (track,) = found.tracks
    assert len(track.amodal) == length
    assert all(decode_rle(rle).all() for rle in track.amodal)


@pytest.mark.parametrize("options", [{"windows": 0}, {"patches": 0}])
def test_completer_refuses_settings(model, options):
    with pytest.raises(ValueError, match="at least 1 window and 1 patch"):
        build_completer("c2f_seg", model=model, **options)
