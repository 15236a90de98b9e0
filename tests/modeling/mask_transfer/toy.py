"""A network of few weights and things of plain shapes, shared by the tests of mask transfer."""

import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.network import TransferNetwork
from amodal2.modeling.mask_transfer.options import TransferOptions
from amodal2.modeling.mask_transfer.refine_net import RefineNet
from amodal2.modeling.mask_transfer.scale_net import ScaleNet
from amodal2.modeling.mask_transfer.score_branch import ScoreBranch
from amodal2.modeling.mask_transfer.visual_concepts import PatchEncoder
from amodal2.modeling.mask_transfer.voting_branch import VoteFilter

STRIDE, CONCEPTS, SHORT = 4, 6, 32


class ToyBackbone(nn.Module):
    """One strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, STRIDE, STRIDE)

    def forward(self, images):
        return {"res": self.conv(images)}


def toy_network(seed: int = 0, *, refine: bool = False) -> TransferNetwork:
    torch.manual_seed(seed)
    return TransferNetwork(
        PatchEncoder(ToyBackbone(3), "res", STRIDE, 8, CONCEPTS),
        ScaleNet(nn.Conv2d(4, 8, 4, 4), 8),
        VoteFilter(CONCEPTS, 3, "pair"),
        ScoreBranch(CONCEPTS, 3, "pair"),
        RefineNet(4) if refine else None,
        short_side=SHORT,
        longest=128,
        scale_mask=True,
    ).eval()


def thing(kind: int, height: int = 40, width: int = 48):
    """Return image (float [3, H, W], normalised) and mask of one of two shapes of one class."""
    image, mask = torch.zeros(3, height, width), torch.zeros(height, width, dtype=torch.bool)
    mask[4:36, 4:44] = True
    if kind:
        mask[4:20, 4:24] = False
    image[kind][mask] = 2.0
    image[2, 8:14, 28:34] = 3.0
    image[1, 24:30, 8:14] = -3.0
    return image, mask


def crop(image, mask):
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    part = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return image[:, part[0], part[1]], mask[part]


def proposals(masks, classes=None):
    """Return objects with the boxes of their visible masks (bool [N, H, W])."""
    found = Instances(tuple(masks.shape[1:]))
    boxes = torch.zeros(len(masks), 4)
    for n, mask in enumerate(masks):
        if mask.any():
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            boxes[n] = torch.stack(edges).float()
    found.pred_boxes = Boxes(boxes)
    found.pred_classes = torch.tensor(classes or [0] * len(masks), dtype=torch.int64)
    found.scores = torch.full((len(masks),), 0.8)
    found.pred_visible_masks = masks
    return found


def toy_transferrer(network, bank, **options):
    return MaskTransferrer(network, bank, TransferOptions(**options))
