"""Random points for mask losses and costs (PointRend Sec. 3.2; Mask2Former Sec. 3.3).

Coordinates are (x, y) in [0, 1] of the padded frame. All draws come from a generator of the sample,
so that a sample's points do not depend on its batch, on the number of processes or on the device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_STREAM_STEP = 0x9E3779B97F4A7C15  # odd, far from any difference of two samples' seeds


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps bilinearly, with zeros outside.

    Args:
        maps (Tensor[N, C, h, w]): float maps.
        points (Tensor[N, P, 2]): coordinates.

    Returns:
        Tensor[N, C, P]: values.
    """
    grid = points[:, :, None] * 2 - 1
    return F.grid_sample(maps, grid.to(maps.dtype), mode="bilinear", align_corners=False)[..., 0]


def uniform_points(
    count: int, number: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw uniform points.

    Args:
        count: sets of points N.
        number: points per set P.
        generator: generator of the sample, on the CPU.
        device: where the result goes.

    Returns:
        Tensor[N, P, 2]: coordinates.
    """
    return torch.rand(count, number, 2, generator=generator).to(device)


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    number: int,
    oversample: float,
    importance: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw points, most of them where the logits are closest to zero.

    Args:
        logits (Tensor[N, 1, h, w]): one map per set of points.
        number: points per set P.
        oversample: candidates per point, at least 1.
        importance: share of the points taken from the most uncertain candidates, in [0, 1].
        generator: generator of the sample, on the CPU.

    Returns:
        Tensor[N, P, 2]: coordinates.
    """
    count = logits.shape[0]
    candidates = uniform_points(count, int(number * oversample), generator, logits.device)
    kept = int(number * importance)
    uncertainty = -sample_points(logits, candidates)[:, 0].abs()
    best = uncertainty.topk(kept, dim=1).indices
    chosen = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    rest = uniform_points(count, number - kept, generator, logits.device)
    return torch.cat((chosen, rest), dim=1)


def sample_generator(seed: int | None, stream: int = 0) -> torch.Generator:
    """Make a generator of one training sample.

    Args:
        seed: the sample's seed; None draws one from torch's global state.
        stream: number of an independent sequence of draws of the same sample.

    Returns:
        a CPU generator.
    """
    generator = torch.Generator()
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    return generator.manual_seed((seed + stream * _STREAM_STEP) % 2**64)
