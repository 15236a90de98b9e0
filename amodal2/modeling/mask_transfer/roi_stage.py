"""Mask transfer behind the boxes and masks of any ROI heads.

A stage of its own and no mask head: heads see pooled features of the detector, while references are
compared with patches of the image. Detection is trained as if the stage were not there; the network
of the stage is trained by ``MaskTransfer`` and read from ``MODEL.MASK_TRANSFER.WEIGHTS``. The
parameters are named like those of the detector without the stage, so that its checkpoints fit.
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

from amodal2.config import get_cfg
from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.network import build_network
from amodal2.modeling.mask_transfer.options import TransferOptions
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
        cfg: configuration of the detector; ``MODEL.MASK_TRANSFER`` has the stage's.
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
        own = _network_config(cfg)
        self.transfer = build_network(own)
        self.transfer.requires_grad_(False)
        if node.WEIGHTS:
            self.transfer.load_state_dict(_read_network(node.WEIGHTS))
        self.convert = _Converter(cfg, own)
        self.bank, self.mask_size = node.BANK, node.MASK_SIZE
        self.keep_visible = node.KEEP_VISIBLE
        self.options = TransferOptions.from_config(cfg)
        self._transferrer: MaskTransferrer | None = None
        self.register_state_dict_post_hook(_drop_stage)
        self.register_load_state_dict_pre_hook(_add_stage)

    def __getattr__(self, name: str) -> Any:
        """Give what other code reads of ROI heads, as their poolers, from the heads inside."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("heads"), name)

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
            tuple: as of the heads; in tests after :meth:`complete`.

        Raises:
            ValueError: in tests, if there is no bank, or the heads predict no masks.
        """
        found, losses = self.heads(images, features, proposals, targets)
        return (found if self.training else self.complete(images, found)), losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Run the heads alone, since images are not given; see :meth:`complete`."""
        return self.heads.forward_with_given_boxes(features, instances)

    def complete(self, images: ImageList, found: list[Instances]) -> list[Instances]:
        """Complete what the heads have found.

        Args:
            images: normalised for the detector.
            found: per image objects with masks inside boxes, as the heads give them.

        Returns:
            list[Instances]: ``pred_masks`` (Tensor[N, 1, S, S]) are amodal masks in ``pred_boxes``,
            which are the amodal boxes. Where the heads predict ``pred_amodal_masks`` or
            ``pred_visible_masks``, these are given in the same form, and both with
            ``KEEP_VISIBLE``; other kinds of masks are left out.

        Raises:
            ValueError: if there is no bank, or there are no masks.
        """
        return [self._complete(images[n], one) for n, one in enumerate(found)]

    def _complete(self, image: Tensor, instances: Instances) -> Instances:
        transferrer = self._transfer_with_bank()
        completed = transferrer(self.convert(image), instances, _paste(instances))
        boxes: Boxes = completed.get(fields.PRED_BOXES)
        result = Instances(instances.image_size)
        for name, value in completed.get_fields().items():
            if name not in _MASKS:
                result.set(name, value)
        kinds = (fields.PRED_AMODAL_MASKS, fields.PRED_VISIBLE_MASKS)
        wanted = [name for name in kinds if self.keep_visible or instances.has(name)]
        for name in (fields.PRED_MASKS, *wanted):
            masks = BitMasks(completed.get(name))
            result.set(name, masks.crop_and_resize(boxes.tensor, self.mask_size).float()[:, None])
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


class _Converter(nn.Module):
    """Turns images that are normalised for the detector into those that the network has learned."""

    scale: Tensor
    shift: Tensor

    def __init__(self, detector: CfgNode, network: CfgNode) -> None:
        super().__init__()
        self.turn = detector.INPUT.FORMAT != network.INPUT.FORMAT
        mean, std = (torch.tensor(v) for v in (detector.MODEL.PIXEL_MEAN, detector.MODEL.PIXEL_STD))
        if self.turn:
            mean, std = mean.flip(0), std.flip(0)
        own_mean = torch.tensor(network.MODEL.PIXEL_MEAN)
        own_std = torch.tensor(network.MODEL.PIXEL_STD)
        self.register_buffer("scale", (std / own_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [3, H, W]."""
        return (image.flip(0) if self.turn else image) * self.scale + self.shift


def _network_config(cfg: CfgNode) -> CfgNode:
    """Return the configuration of the stage's network."""
    file = cfg.MODEL.MASK_TRANSFER.CONFIG_FILE
    if file:
        own = get_cfg()
        own.merge_from_file(file)
        return own
    own = cfg.clone()
    own.defrost()
    own.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    return own


def _drop_stage(
    module: TransferROIHeads, state: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    """Name the parameters as without the stage, and leave its network out."""
    for name in [name for name in state if name.startswith(prefix)]:
        part = name.removeprefix(prefix)
        value = state.pop(name)
        if part.startswith("heads."):
            state[prefix + part.removeprefix("heads.")] = value


def _add_stage(module: TransferROIHeads, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Undo :func:`_drop_stage`; the network keeps its weights."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}heads.{name.removeprefix(prefix)}"] = state.pop(name)
    for name, value in module.transfer.state_dict().items():
        state[f"{prefix}transfer.{name}"] = value


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
