"""The training stream and the choice of frames."""

from itertools import chain, islice

import numpy as np
import pytest

from amodal2.data.samplers import (
    MixedStream,
    PositionBatchSampler,
    TrainingStream,
    sample_frame_indices,
)


def test_training_stream_every_epoch_is_a_new_permutation():
    stream = TrainingStream(7, seed=3)
    epochs = [[stream.index(e * 7 + i) for i in range(7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_training_stream_position_alone_decides():
    forward, backward = TrainingStream(7, seed=3), TrainingStream(7, seed=3)
    positions = [0, 5, 13, 14, 100]
    expected = [(forward.index(p), forward.sample_seed(p)) for p in positions]
    got = [(backward.index(p), backward.sample_seed(p)) for p in reversed(positions)]
    assert expected == got[::-1]


def test_training_stream_seed_changes_order_and_sample_seeds():
    a, b = TrainingStream(50, seed=1), TrainingStream(50, seed=2)
    assert [a.index(i) for i in range(50)] != [b.index(i) for i in range(50)]
    seeds = {stream.sample_seed(i) for stream in (a, b) for i in range(200)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("items", "seed"), [(0, 1), (3, -1)])
def test_training_stream_wrong_arguments_raise(items, seed):
    with pytest.raises(ValueError, match="TrainingStream: expected"):
        TrainingStream(items, seed)


@pytest.mark.parametrize("weights", [(1, 3), (0.2, 0.6)])
def test_mixed_stream_draws_by_weight_whatever_the_sizes(weights):
    stream = MixedStream([50, 4], weights, seed=1)
    drawn = np.array([stream.index(p) for p in range(4000)])
    share = np.mean(drawn >= 50)
    assert abs(share - 0.75) < 3 * (0.75 * 0.25 / 4000) ** 0.5
    assert sorted(set(drawn)) == list(range(54))
    counts = np.bincount(drawn)
    assert counts[:50].std() < 3 * counts[:50].mean() ** 0.5


def test_mixed_stream_position_alone_decides():
    streams = [MixedStream([7, 3], (1, 1), seed=3) for _ in range(2)]
    positions = [0, 5, 13, 14, 100]
    expected = [(streams[0].index(p), streams[0].sample_seed(p)) for p in positions]
    assert [(streams[1].index(p), streams[1].sample_seed(p)) for p in positions[::-1]] == (
        expected[::-1]
    )
    other = MixedStream([7, 3], (1, 1), seed=4)
    assert [other.index(p) for p in range(50)] != [streams[0].index(p) for p in range(50)]


def test_mixed_stream_has_no_entry_twice_in_a_pass():
    stream = MixedStream([8, 8], (1, 1), seed=0)
    for start in range(0, 80, 8):
        drawn = [stream.index(p) for p in range(start, start + 8)]
        assert len(set(drawn)) == 8


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, 2, 3)])
def test_mixed_stream_wrong_weights_raise(weights):
    with pytest.raises(ValueError, match=r"expected 2 weights of at least 0.*DATASET_RATIO"):
        MixedStream([2, 2], weights, seed=0)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_position_batch_sampler_ranks_share_the_same_stream(world_size):
    ranks = [
        islice(PositionBatchSampler(8, rank=r, world_size=world_size, start_batch=2), 3)
        for r in range(world_size)
    ]
    batches = [[*chain.from_iterable(blocks)] for blocks in zip(*ranks, strict=True)]
    assert batches == [list(range(b * 8, b * 8 + 8)) for b in (2, 3, 4)]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 3, "world_size": 2},
        {"batch_size": 4, "world_size": 2, "rank": 2},
        {"batch_size": 4, "start_batch": -1},
    ],
)
def test_position_batch_sampler_wrong_layout_raises(settings):
    with pytest.raises(ValueError, match="PositionBatchSampler: expected"):
        PositionBatchSampler(**settings)


@pytest.mark.parametrize("length", [15, 16, 20, 128])
@pytest.mark.parametrize("reach", [0, 3, 12, -1])
def test_sample_frame_indices_distinct_sorted_inside(length, reach):
    rng = np.random.default_rng(0)
    for _ in range(50):
        indices = sample_frame_indices(rng, length, 15, reach)
        assert len(set(indices)) == 15
        assert indices == sorted(indices)
        assert indices[0] >= 0
        assert indices[-1] < length
        if reach >= 0:
            assert indices[-1] - indices[0] <= max(2 * reach, 14)


def test_sample_frame_indices_enough_frames_stay_in_the_window_and_cover_it():
    rng = np.random.default_rng(0)
    spans = [sample_frame_indices(rng, 1000, 3, 12) for _ in range(2000)]
    widths = np.array([s[-1] - s[0] for s in spans])
    assert widths.max() <= 24
    assert widths.max() >= 22
    counts = np.bincount(np.concatenate(spans) // 100, minlength=10)
    assert counts.min() > 0.7 * counts.mean()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_sample_frame_indices_short_video_gives_each_frame_once(length):
    assert sample_frame_indices(np.random.default_rng(0), length, 5, 1) == list(range(length))


def test_sample_frame_indices_single_frame_is_uniform():
    rng = np.random.default_rng(0)
    drawn = np.concatenate([sample_frame_indices(rng, 4, 1, 0) for _ in range(2000)])
    np.testing.assert_allclose(np.bincount(drawn) / 2000, 0.25, atol=0.04)


@pytest.mark.parametrize(("length", "frames"), [(0, 3), (3, 0)])
def test_sample_frame_indices_nothing_to_draw_raises(length, frames):
    with pytest.raises(ValueError, match="expected at least one frame"):
        sample_frame_indices(np.random.default_rng(0), length, frames, 2)
