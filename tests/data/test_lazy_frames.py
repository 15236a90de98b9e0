"""Frames that are decoded on demand."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from amodal2.data import lazy_frames
from amodal2.data.lazy_frames import LazyFrames, frames_to_tensor


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    names = []
    for t in range(5):
        names.append(str(tmp_path / f"{t}.png"))
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(names[-1])
    return names


def test_lazy_frames_clip_equals_the_files(files):
    clip = LazyFrames(files, 5).clip(1, 4)
    expected = np.stack([np.asarray(Image.open(name)) for name in files[1:4]])
    assert clip.dtype == torch.uint8
    np.testing.assert_array_equal(clip.permute(0, 2, 3, 1).numpy(), expected)


def test_lazy_frames_clip_is_resized(files):
    frames = LazyFrames(files, 5, short_edge=6, longest_edge=100)
    assert len(frames) == 5
    assert frames.clip(0, 2).shape == (2, 3, 6, 8)


def test_lazy_frames_decodes_only_what_is_asked(files, monkeypatch):
    read = []
    original = lazy_frames.open_frames

    def spy(source):
        opened = original(source)
        inner = opened.read
        opened.read = lambda indices: read.extend(indices) or inner(indices)
        return opened

    monkeypatch.setattr(lazy_frames, "open_frames", spy)
    frames = LazyFrames(files, 5)
    assert read == []
    frames.clip(3, 5)
    assert read == [3, 4]


def test_lazy_frames_pickles_after_use(files):
    frames = LazyFrames(files, 5)
    first = frames.clip(0, 1)
    copy = pickle.loads(pickle.dumps(frames))
    assert torch.equal(copy.clip(0, 1), first)
    copy.close()
    assert torch.equal(copy.clip(0, 1), first)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (3, 6)])
def test_lazy_frames_interval_outside_raises(files, start, stop):
    with pytest.raises(IndexError, match=r"LazyFrames.clip: expected 0 <= start < stop <= 5"):
        LazyFrames(files, 5).clip(start, stop)


def test_frames_to_tensor_moves_channels_first():
    frames = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    tensor = frames_to_tensor(frames)
    assert tensor.shape == (1, 3, 2, 4)
    assert tensor.is_contiguous()
    assert tensor[0, 2, 1, 3] == frames[0, 1, 3, 2]
