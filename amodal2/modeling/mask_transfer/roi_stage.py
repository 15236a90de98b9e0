"""Mask transfer behind the boxes and masks of any ROI heads.

A stage of its own and no mask head: heads see pooled features of the detector, while references are
compared with patches of the image. Detection is trained as if the stage were not there; the network
of the stage is trained by ``MaskTransfer`` and read from ``MODEL.MASK_TRANSFER.WEIGHTS``.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, ROIMasks
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.inference import MaskTransferrer, TransferOptions
from amodal2.modeling.mask_transfer.network import build_network
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.structures import fields

_MASKS = (
    fields.PRED_MASKS,
    fields.PRED_AMODAL_MASKS,
    fields.PRED_VISIBLE_MASKS,
    fields.PRED_INVISIBLE_MASKS,
    fields.PRED_OCCLUDER_MASKS,
)


@ROI_HEADS_REGISTRY.register()
class TransferROIHeads(nn.Module):
    """The ROI heads that ``MODEL.MASK_TRANSFER.ROI_HEADS`` names, and mask transfer after them.

    Args:
        cfg: configuration; patches are normalised like the detector's images.
        input_shape: of the backbone's feature maps.

    Raises:
        ValueError: if the heads named are these, or the weights are of no ``MaskTransfer``.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__()
        node = cfg.MODEL.MASK_TRANSFER
        if node.ROI_HEADS == type(self).__name__:
            raise ValueError(
                "TransferROIHeads: expected MODEL.MASK_TRANSFER.ROI_HEADS to name other heads, got "
                f"{node.ROI_HEADS!r}"
            )
        self.heads = ROI_HEADS_REGISTRY.get(node.ROI_HEADS)(cfg, input_shape)
        own = cfg.clone()
        own.defrost()
        own.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        self.transfer = build_network(own)
        self.transfer.requires_grad_(False)
        if node.WEIGHTS:
            self.transfer.load_state_dict(_read_network(node.WEIGHTS))
        self.bank, self.mask_size = node.BANK, node.MASK_SIZE
        self.options = TransferOptions.from_config(cfg)
        self._transferrer: MaskTransferrer | None = None

    def train(self, mode: bool = True) -> TransferROIHeads:
        """Switch the detector; the transfer stays in evaluation mode."""
        super().train(mode)
        self.transfer.eval()
        self._transferrer = None
        return self

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Run the heads and, in tests, complete what they find; arguments as of Detectron2's heads.

        Returns:
            tuple: as of the heads. In tests ``pred_masks`` (Tensor[N, 1, S, S]) are amodal masks in
            ``pred_boxes``, which are the amodal boxes. Where the heads predict
            ``pred_amodal_masks`` or ``pred_visible_masks``, these are given in the same form; other
            kinds of masks are left out.

        Raises:
            ValueError: in tests, if there is no bank, or the heads predict no masks.
        """
        found, losses = self.heads(images, features, proposals, targets)
        if self.training:
            return found, losses
        return [self._complete(images[n], one) for n, one in enumerate(found)], losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Run the heads alone: without the image there is nothing to compare references with."""
        return self.heads.forward_with_given_boxes(features, instances)

    def _complete(self, image: Tensor, instances: Instances) -> Instances:
        completed = self._transfer_with_bank()(image, instances, _paste(instances))
        boxes: Boxes = completed.get(fields.PRED_BOXES)
        result = Instances(instances.image_size)
        for name, value in completed.get_fields().items():
            if name not in _MASKS:
                result.set(name, value)
        for name, wanted in (
            (fields.PRED_MASKS, True),
            (fields.PRED_AMODAL_MASKS, instances.has(fields.PRED_AMODAL_MASKS)),
            (fields.PRED_VISIBLE_MASKS, instances.has(fields.PRED_VISIBLE_MASKS)),
        ):
            if wanted:
                masks = BitMasks(completed.get(name))
                in_boxes = masks.crop_and_resize(boxes.tensor, self.mask_size)
                result.set(name, in_boxes.float()[:, None])
        return result

    def _transfer_with_bank(self) -> MaskTransferrer:
        """Read the bank at its first use."""
        if self._transferrer is None:
            if not self.bank:
                raise ValueError(
                    "TransferROIHeads: expected a bank of references, got an empty "
                    "MODEL.MASK_TRANSFER.BANK; make one with tools/build_reference_bank.py"
                )
            bank = ReferenceBank.load(self.bank)
            self._transferrer = MaskTransferrer(self.transfer, bank, self.options)
        return self._transferrer


def _paste(instances: Instances) -> Tensor:
    """Return the heads' masks (bool Tensor[N, H, W]) in the image."""
    names = (fields.PRED_VISIBLE_MASKS, fields.PRED_MASKS)
    name = next((name for name in names if instances.has(name)), None)
    if name is None:
        raise ValueError(
            f"TransferROIHeads: expected heads that predict one of {names}, got "
            f"{sorted(instances.get_fields())}; set MODEL.MASK_ON"
        )
    masks: Any = instances.get(name)
    if isinstance(masks, ROIMasks):
        masks = masks.tensor
    if masks.dim() == 4:
        masks = masks[:, 0]
    size: tuple[int, int] = instances.image_size
    if len(masks) == 0:
        return torch.zeros((0, *size), dtype=torch.bool, device=masks.device)
    if masks.shape[1:] == size:
        return masks > 0.5
    return paste_masks_in_image(masks, instances.get(fields.PRED_BOXES).tensor, size, 0.5)


def _read_network(path: str) -> dict[str, Tensor]:
    """Return the network's weights of a checkpoint of ``MaskTransfer``."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    weights = content.get("model", content)
    found = {k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")}
    if not found:
        raise ValueError(
            f"TransferROIHeads: expected weights of MaskTransfer in {path}, got "
            f"{sorted(weights)[:3]}"
        )
    return found
