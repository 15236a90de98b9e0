"""The device of command-line programs."""

import pytest
import torch

from amodal2.utils.device import available_device


@pytest.mark.parametrize(
    ("asked", "gpu", "expected"),
    [
        ("cuda", False, "cpu"),
        ("cuda:1", False, "cpu"),
        ("cuda", True, "cuda"),
        ("cpu", True, "cpu"),
        ("mps", False, "mps"),
    ],
)
def test_available_device_falls_back_from_cuda_only(
    asked: str, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert available_device(asked) == expected
