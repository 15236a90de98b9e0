"""Pseudo-depth by Depth Anything V2: transformers' network with the official pre-processing.

transformers' own image processor and position codes give other numbers than the official code:
its rule for the size "scales as little as possible", and it interpolates the position table to a
size instead of by a factor. Letters: H W frame, h w patches.
"""

from __future__ import annotations

import math
import pickle
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amodal2.modeling.diffusion_vas.depth_weights import network_arguments, translate_depth_weights
from amodal2.modeling.diffusion_vas.libraries import EXTRA, require_libraries
from amodal2.utils.depth import DepthSource, FloatImage
from amodal2.utils.errors import CheckpointError
from amodal2.utils.optional import require

if TYPE_CHECKING:
    from transformers import DepthAnythingForDepthEstimation

_SHORT_EDGE = 518
_PATCH = 14
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OFFSET = 0.1  # of the official interpolation of the position table


class DepthAnything(DepthSource):
    """Gives the relative inverse depth of single frames."""

    def __init__(self, network: DepthAnythingForDepthEstimation, device: str = "cpu") -> None:
        """Take a network.

        Args:
            network: with weights.
            device: where it runs.
        """
        self.network = network.eval().to(device)
        self.device = torch.device(device)
        embeddings = self.network.backbone.embeddings
        embeddings.interpolate_pos_encoding = types.MethodType(_official_positions, embeddings)

    @classmethod
    def load(cls, source: str | Path, device: str = "cpu") -> DepthAnything:
        """Load weights.

        Args:
            source: the official ``depth_anything_v2_vits.pth`` (or vitb, vitl), or a folder of the
                layout of ``depth-anything/Depth-Anything-V2-Small-hf``. The small one has the
                Apache licence; the larger ones may not be used commercially.
            device: where it runs.

        Returns:
            DepthAnything: ready to use.

        Raises:
            MissingDependencyError: if transformers is absent or too old.
            CheckpointError: if there are no such weights.
        """
        require_libraries()
        transformers = require("transformers", EXTRA)
        path = Path(source)
        try:
            if path.is_dir():
                network = transformers.DepthAnythingForDepthEstimation.from_pretrained(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
                arguments = network_arguments(state)
                backbone = transformers.Dinov2Config(**arguments.pop("backbone"))
                network = transformers.DepthAnythingForDepthEstimation(
                    transformers.DepthAnythingConfig(backbone_config=backbone, **arguments)
                )
                network.load_state_dict(translate_depth_weights(state))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as e:
            raise CheckpointError(_message(path, e)) from e
        except (pickle.UnpicklingError, EOFError) as e:
            raise CheckpointError(_message(path, e)) from e
        return cls(network, device)

    @torch.inference_mode()
    def __call__(self, frame: NDArray[np.uint8], index: int) -> FloatImage:
        """Estimate the depth of a frame, see :class:`amodal2.utils.depth.DepthSource`."""
        image = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].float() / 255
        size = network_size(frame.shape[0], frame.shape[1])
        image = nn.functional.interpolate(image, size, mode="bicubic", align_corners=False)
        mean, std = (image.new_tensor(v).reshape(1, 3, 1, 1) for v in (_MEAN, _STD))
        depth = self.network((image - mean) / std).predicted_depth[:, None]
        depth = nn.functional.interpolate(
            depth, frame.shape[:2], mode="bilinear", align_corners=True
        )
        return depth[0, 0].float().cpu().numpy()


def network_size(height: int, width: int) -> tuple[int, int]:
    """Return the size of the network's input: both edges at least 518, multiples of 14.

    Args:
        height: H of the frame in pixels.
        width: W of the frame in pixels.

    Returns:
        tuple: height and width in pixels.
    """
    scale = max(_SHORT_EDGE / height, _SHORT_EDGE / width)

    def fit(length: int) -> int:
        rounded = round(scale * length / _PATCH) * _PATCH
        return rounded if rounded >= _SHORT_EDGE else math.ceil(scale * length / _PATCH) * _PATCH

    return fit(height), fit(width)


def _official_positions(self: Any, embeddings: Tensor, height: int, width: int) -> Tensor:
    """Interpolate the position table as DINOv2 does, by a factor that is slightly too large."""
    table = self.position_embeddings
    side = math.isqrt(table.shape[1] - 1)
    rows, columns = height // self.patch_size, width // self.patch_size
    if (rows, columns) == (side, side):
        return table
    grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
    grid = nn.functional.interpolate(grid, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1).to(embeddings)


def _message(path: Path, error: Exception) -> str:
    return (
        f"DepthAnything.load: expected weights of Depth Anything V2 in {path}, got {error!r}; "
        "'hf download depth-anything/Depth-Anything-V2-Small-hf --local-dir FOLDER' where there is "
        "a network"
    )
