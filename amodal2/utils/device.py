"""Choice of the device for programs and the model zoo; other code takes it from its inputs."""

from __future__ import annotations

import torch

from amodal2.utils.logging import get_logger


def available_device(device: str) -> str:
    """Replace a CUDA device by the CPU where there is no GPU, and say so.

    Args:
        device: a torch device name such as ``MODEL.DEVICE``.

    Returns:
        str: ``device``, or "cpu" if it names a GPU and torch sees none.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        get_logger(__name__).info("No GPU: running on the CPU")
        return "cpu"
    return device


def bfloat16_pays(device_type: str) -> bool:
    """Tell whether bfloat16 autocast can make training on a device faster.

    A CPU without the vector instructions for it emulates them: on one with AVX2 only a 3x3
    convolution took 38 times as long as in float32.

    Args:
        device_type: "cpu", "cuda" and so on.
    """
    if device_type != "cpu":
        return True
    available = torch.backends.mkldnn.is_available()
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
