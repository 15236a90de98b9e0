"""Feature maps in a temporary file."""

import pytest
import torch

from amodal2.structures.feature_file import FeatureFile


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_feature_file_gives_back_what_was_written(dtype: torch.dtype) -> None:
    clips = [torch.randn(n, 4, 3, 5).to(dtype) for n in (3, 1, 2)]
    clips[1] = clips[1].transpose(2, 3)  # not contiguous
    file = FeatureFile()
    for clip in clips:
        file.append(clip)
    first, again = list(file.read()), list(zip(file.read(), file.read(), strict=True))
    file.close()
    for clip, one, (two, three) in zip(clips, first, again, strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, clip)
        assert torch.equal(two, clip)
        assert torch.equal(three, clip)


def test_feature_file_appends_after_reading() -> None:
    file = FeatureFile()
    file.append(torch.ones(2))
    reader = file.read()
    next(reader)
    file.append(torch.zeros(3))
    assert [x.tolist() for x in file.read()] == [[1, 1], [0, 0, 0]]
