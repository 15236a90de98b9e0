"""Windows of long videos."""

import pytest
import torch

from amodal2.modeling.diffusion_vas.masks import amodal_masks, majority_vote, mask_probability
from amodal2.modeling.diffusion_vas.windows import pad_frames, run_windows, window_starts


@pytest.mark.parametrize(
    ("length", "overlap", "expected"),
    [
        (25, 8, [0]),
        (7, 8, [0]),
        (26, 8, [0, 1]),
        (42, 8, [0, 17]),
        (60, 8, [0, 17, 34, 35]),
        (75, 0, [0, 25, 50]),
    ],
)
def test_window_starts_cover_the_video(length: int, overlap: int, expected: list[int]) -> None:
    assert window_starts(length, 25, overlap) == expected


def test_window_starts_overlap_of_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="below the window of 4 frames, got 4"):
        window_starts(9, 4, 4)


@pytest.mark.parametrize("length", [3, 4, 5, 11])
def test_run_windows_agreeing_windows_give_the_video(length: int) -> None:
    video = torch.rand(2, length, 3)
    found = run_windows(lambda start, stop: video[:, start:stop], length, 4, 1)
    torch.testing.assert_close(found, video)


def test_run_windows_overlaps_are_averaged() -> None:
    values = iter([0.0, 1.0])
    found = run_windows(
        lambda start, stop: torch.full((1, stop - start), next(values)),
        length=6,
        window=4,
        overlap=2,
    )
    assert found.tolist() == [[0, 0, 0.5, 0.5, 1, 1]]


def test_pad_frames_repeats_the_last_one() -> None:
    video = torch.arange(3.0)
    assert pad_frames(video, 5).tolist() == [0, 1, 2, 2, 2]
    assert pad_frames(video, 2) is video


def test_amodal_masks_threshold_is_strict_and_sums_channels() -> None:
    levels = torch.tensor([[200, 200, 200], [201, 200, 200], [255, 255, 91]]) / 255
    frames = levels.T.reshape(3, 1, 3)
    visible = torch.tensor([[True, False, False]])
    probability = mask_probability(frames)
    assert amodal_masks(probability).tolist() == [[False, True, True]]
    assert amodal_masks(probability, visible).tolist() == [[True, True, True]]


def test_majority_vote_takes_more_than_half() -> None:
    samples = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]]).bool()
    assert majority_vote(samples[:3]).tolist() == [True, True, False, False]
    assert majority_vote(samples).tolist() == [True, False, False, False]
