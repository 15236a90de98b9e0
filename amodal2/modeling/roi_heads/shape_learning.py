"""Learning of typical shapes from masks: the auto-encoder, then clusters of its codes.

Shapes: N masks, M their side, D numbers per code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.roi_heads.shape_codebook import ShapeAutoencoder
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class ShapeSettings:
    """How shapes are learned.

    Attributes:
        epochs (int): passes over the masks.
        batch_size (int): masks per step.
        learning_rate (float): of Adam.
        codes (int): most codes per class (VRSP: 1024).
        augment (bool): add the codes of rotated (by quarters) and mirrored masks.
        seed (int): of all random choices.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    codes: int = 1024
    augment: bool = True
    seed: int = 0


def learn_shapes(
    masks: Tensor, classes: Tensor, settings: ShapeSettings
) -> tuple[ShapeAutoencoder, dict[int, Tensor]]:
    """Train an auto-encoder on masks and cluster their codes class by class.

    Args:
        masks (Tensor[N, M, M]): bool, cut out of the boxes of objects; M is a multiple of 4.
        classes (Tensor[N]): int64 class index.
        settings: see there.

    Returns:
        tuple: the auto-encoder, and class index -> codes [at most settings.codes, D].

    Raises:
        ValueError: if there is no mask or their side is no multiple of 4.
    """
    if not len(masks) or masks.shape[-1] % 4:
        raise ValueError(
            "learn_shapes: expected at least one mask with a side that is a multiple of 4, got "
            f"{list(masks.shape)}"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = ShapeAutoencoder()
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    for epoch in range(settings.epochs):
        total = 0.0
        for batch in torch.randperm(len(masks), generator=generator).split(settings.batch_size):
            true = masks[batch].float()
            loss = F.mse_loss(net.decode(net.encode(true)), true)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        logger.info("epoch %d: squared error %.4f", epoch + 1, total / len(masks))
    codes = {}
    for index in classes.unique().tolist():
        chosen = masks[classes == index].float()
        with torch.no_grad():
            found = torch.cat([net.encode(view) for view in _views(chosen, settings.augment)])
        codes[index] = cluster(found, settings.codes, generator)
        logger.info("class %d: %d codes of %d masks", index, len(codes[index]), len(chosen))
    return net.eval(), codes


def cluster(points: Tensor, count: int, generator: torch.Generator, rounds: int = 25) -> Tensor:
    """Replace points by the centres of at most ``count`` clusters (k-means).

    Args:
        points (Tensor[N, D]): float.
        count: most centres.
        generator: draws the points that the centres start from.
        rounds: most rounds; it ends when no point changes its cluster.

    Returns:
        Tensor[min(N, count), D]: the points themselves if they are no more.
    """
    if len(points) <= count:
        return points
    centres = points[torch.randperm(len(points), generator=generator)[:count]]
    nearest = torch.full((len(points),), -1)
    for _ in range(rounds):
        before = nearest
        nearest = torch.cat([torch.cdist(p, centres).argmin(dim=1) for p in points.split(4096)])
        if torch.equal(before, nearest):
            break
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = nearest.bincount(minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return centres


def _views(masks: Tensor, augment: bool) -> list[Tensor]:
    """Return the masks, and with ``augment`` their rotations and mirror images."""
    turns = [masks.rot90(k, (1, 2)) for k in range(4 if augment else 1)]
    return turns + [turn.flip(2) for turn in turns if augment]
