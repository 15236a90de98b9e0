"""The device of command-line programs."""

import pytest
import torch

from amodal2.utils.device import available_device, bfloat16_pays


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


@pytest.mark.parametrize(
    ("device_type", "available", "supported", "expected"),
    [
        ("cuda", False, False, True),
        ("cpu", True, True, True),
        ("cpu", True, False, False),
        ("cpu", False, True, False),
    ],
)
def test_bfloat16_pays_asks_the_cpu_only(
    device_type: str,
    available: bool,
    supported: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert bfloat16_pays(device_type) is expected
