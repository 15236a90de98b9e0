"""From boxes and visible masks to amodal masks by a bank of references (Sec. 3.4).

Shapes: N objects, H W image, R references of a class, V concepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from amodal2.modeling.mask_transfer.correlation import BankSpectra
from amodal2.modeling.mask_transfer.network import TransferNetwork
from amodal2.modeling.mask_transfer.patches import Patch, rescale, whole_box
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.modeling.mask_transfer.transfer import (
    Placement,
    agreement,
    others_of,
    refine_affine,
    transfer_masks,
    unite_with_visible,
)
from amodal2.modeling.mask_transfer.voting_branch import peaks, valid_votes, vote_places
from amodal2.structures import fields

REFINEMENTS = ("none", "affine")
_RERANKED = 8


@dataclass(frozen=True)
class TransferOptions:
    """Switches of inference; the defaults are the paper's. See ``config/mask_transfer.py``."""

    context: float = 1.0
    subpixel: bool = False
    topk: int = 1
    refine: str = "none"
    union_visible: bool = False
    ring: int = 5
    rerank: float = 0.0
    min_score: float = 0.0
    rescore: float = 0.0
    shortlist: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.topk < 1 or self.shortlist < 0 or self.ring < 0 or self.context <= 0:
            raise ValueError(
                "TransferOptions: expected TOPK >= 1, SHORTLIST >= 0, RING >= 0 and CONTEXT > 0, "
                f"got {self.topk}, {self.shortlist}, {self.ring} and {self.context}"
            )
        if self.refine not in REFINEMENTS:
            raise ValueError(
                f"TransferOptions: expected REFINE of {REFINEMENTS}, got {self.refine!r}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TransferOptions:
        """Read the keys of ``MODEL.MASK_TRANSFER``."""
        node = cfg.MODEL.MASK_TRANSFER
        return cls(**{name: node[name.upper()] for name in cls.__dataclass_fields__})


class _ClassBank:
    """The references of one class, ready to be voted for."""

    def __init__(
        self, bank: ReferenceBank, index: Tensor, network: TransferNetwork, device: torch.device
    ) -> None:
        self.ids = index
        cells, sizes = bank.cells[index], bank.sizes[index]
        height, width = cells.amax(dim=0).tolist()
        self.concepts = bank.concepts[index, :, :height, :width].to(device, torch.float32)
        self.masks = bank.masks[index].to(device, torch.float32)
        self.cells, self.sizes = cells.to(device), sizes.to(device)
        self.centres = self.sizes.float() / (2 * network.encoder.stride)
        self.means = F.normalize(self.concepts.mean(dim=(2, 3)), dim=1)
        self.vote = BankSpectra(self.concepts, network.vote.weight)
        self.score = BankSpectra(self.concepts, network.score.filter.weight)


@dataclass
class _Query:
    """A proposal that can be completed.

    Attributes:
        number: of its object.
        class_id: contiguous class index.
        patch: rescaled.
        concepts: Tensor[V, h, w].
        scale: predicted image pixels per patch pixel.
    """

    number: int
    class_id: int
    patch: Patch
    concepts: Tensor
    scale: float


class MaskTransferrer:
    """Completes objects by masks of similar, complete ones.

    Args:
        network: trained; it is used in evaluation mode.
        bank: encoded by this network.
        options: switches.

    Raises:
        ValueError: if another network has encoded the bank.
    """

    def __init__(
        self, network: TransferNetwork, bank: ReferenceBank, options: TransferOptions
    ) -> None:
        expected = network.fingerprint()
        if bank.encoder != expected:
            raise ValueError(
                f"MaskTransferrer: expected a bank of the encoder {expected}, got one of "
                f"{bank.encoder}; build it again with these weights"
            )
        self.network, self.options, self.bank = network, options, bank
        self._classes: dict[int, _ClassBank] = {}

    @torch.no_grad()
    def __call__(self, image: Tensor, instances: Instances, visible: Tensor) -> Instances:
        """Complete the objects of an image.

        An object keeps its visible mask as amodal mask if its class has no references, its box no
        size, or its best reference is not as likely as ``min_score``.

        Args:
            image (Tensor[3, H, W]): normalised.
            instances: N objects with ``pred_boxes`` and ``pred_classes``.
            visible (Tensor[N, H, W]): bool, the detector's masks.

        Returns:
            Instances: the fields given and ``pred_visible_masks``, ``pred_amodal_masks`` and
            ``pred_masks`` (bool Tensor[N, H, W]; the last two are equal), ``pred_boxes`` (of the
            amodal masks), ``mt_ref_id``, ``mt_score``, ``mt_center`` and ``mt_scale``.

        Raises:
            ValueError: if the masks have another shape than the image and the objects.
        """
        size = (image.shape[1], image.shape[2])
        if visible.shape != (len(instances), *size):
            raise ValueError(
                f"MaskTransferrer: expected masks {(len(instances), *size)}, got "
                f"{tuple(visible.shape)}"
            )
        amodal = visible.clone()
        found = _new_fields(len(instances), image.device)
        others = others_of(visible)
        for query in self._encode(image, instances, visible):
            n = query.number
            mask, reference, score, centre = self._complete(query, visible[n], others[n], size)
            found[fields.MT_SCORE][n], found[fields.MT_SCALE][n] = score, query.scale
            if score >= self.options.min_score and bool(mask.any()):
                amodal[n] = mask
                found[fields.MT_REF_ID][n], found[fields.MT_CENTER][n] = reference, centre
        return self._finish(instances, visible, amodal, found)

    def class_bank(self, class_id: int, device: torch.device) -> _ClassBank | None:
        """Return the references of a class on a device, None if there are none."""
        kept = self._classes.get(class_id)
        if kept is None or kept.concepts.device != device:
            index = (self.bank.classes == class_id).nonzero()[:, 0]
            if len(index) == 0:
                return None
            kept = self._classes[class_id] = _ClassBank(self.bank, index, self.network, device)
        return kept

    def _encode(self, image: Tensor, instances: Instances, visible: Tensor) -> list[_Query]:
        """Cut, rescale and encode the objects that have a box and references."""
        size, chosen = (image.shape[1], image.shape[2]), []
        classes = instances.get(fields.PRED_CLASSES).tolist()
        for n, box in enumerate(instances.get(fields.PRED_BOXES).tensor.tolist()):
            whole = whole_box(box, size, self.options.context)
            if whole is not None and self.class_bank(classes[n], image.device) is not None:
                chosen.append((n, whole))
        if not chosen:
            return []
        crops = [image[:, y0:y1, x0:x1] for _, (x0, y0, x1, y1) in chosen]
        masks = [visible[n, y0:y1, x0:x1] for n, (x0, y0, x1, y1) in chosen]
        scales = self.network.predict_scales(crops, masks).tolist()
        longest = self.network.longest
        patches = [
            rescale(crop, scale, longest, (box[0], box[1]))
            for crop, scale, (_, box) in zip(crops, scales, chosen, strict=True)
        ]
        concepts = self.network.encoder([patch.image for patch in patches])
        return [
            _Query(n, classes[n], patch, maps, scale)
            for (n, _), patch, maps, scale in zip(chosen, patches, concepts, scales, strict=True)
        ]

    def _complete(
        self, query: _Query, visible: Tensor, others: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, int, float, Tensor]:
        """Return mask (bool [H, W]), reference, score and centre (x, y) of one object."""
        bank = self.class_bank(query.class_id, visible.device)
        assert bank is not None, "only objects whose class has references are encoded"
        index, logits, centres = self._match(query, bank)
        count = max(self.options.topk, _RERANKED if self.options.rerank else 1)
        best = logits.topk(min(count, len(logits))).indices
        scale = visible.new_tensor(query.patch.scale, dtype=torch.float32)
        origin = visible.new_tensor(query.patch.origin, dtype=torch.float32)
        middle = origin + scale * self.network.encoder.stride * centres[best].flip(1)
        placement = Placement(middle, scale.expand_as(middle))
        chosen = index[best]
        masks, sizes = bank.masks[chosen], bank.sizes[chosen]
        seen = visible.float().expand(len(best), *size)
        hidden = others.float().expand(len(best), *size)
        if self.options.refine == "affine":
            placement = refine_affine(masks, sizes, placement, seen, hidden)
        soft = transfer_masks(masks, sizes, placement, size)
        ranks = logits[best].clone()
        if self.options.rerank:
            ranks += self.options.rerank * agreement((soft >= 0.5).float(), seen, hidden)
        kept = ranks.topk(min(self.options.topk, len(ranks))).indices
        weights = ranks[kept].softmax(dim=0)[:, None, None]
        mask = (soft[kept] * weights).sum(dim=0) >= 0.5
        if self.options.union_visible:
            mask = unite_with_visible(mask[None], visible[None], others[None], self.options.ring)[0]
        first = kept[0]
        reference = int(bank.ids[int(chosen[first])])
        return mask, reference, float(logits[best[first]].sigmoid()), placement.centre[first]

    def _match(self, query: _Query, bank: _ClassBank) -> tuple[Tensor, Tensor, Tensor]:
        """Return references (int64 [R]), their logits [R] and centres ([R, 2], cells, y x)."""
        network, concepts = self.network, query.concepts[None]
        filters = (network.vote, network.score.filter)
        index = torch.arange(len(bank.masks), device=concepts.device)
        if 0 < self.options.shortlist < len(index):
            likeness = bank.means @ F.normalize(query.concepts.mean(dim=(1, 2)), dim=0)
            index = likeness.topk(self.options.shortlist).indices.sort().values
            references = bank.concepts[index]
            spectra = [BankSpectra(references, one.weight, keep=False) for one in filters]
        else:
            references, spectra = bank.concepts, [bank.vote, bank.score]
        many = concepts.expand(len(index), -1, -1, -1)
        padded = (concepts.shape[2], concepts.shape[3])
        query_sizes = torch.tensor(padded, device=concepts.device).expand(len(index), 2)
        votes, own_votes = (
            branch.normalize(one.votes(concepts)[0], many, query_sizes, references)
            for branch, one in zip(filters, spectra, strict=True)
        )
        shape = (votes.shape[1], votes.shape[2])
        cells = bank.cells[index]
        valid = valid_votes(query_sizes, cells, padded, shape)
        logits = network.score(own_votes, valid, many, query_sizes, references, cells)
        places = peaks(votes, valid, subpixel=self.options.subpixel)
        return index, logits, vote_places(places, bank.centres[index], padded)

    def _finish(
        self, instances: Instances, visible: Tensor, amodal: Tensor, found: dict[str, Tensor]
    ) -> Instances:
        """Put everything into new instances."""
        result = Instances(instances.image_size, **instances.get_fields())
        boxes = instances.get(fields.PRED_BOXES).clone()
        some = amodal.flatten(1).any(dim=1)
        boxes.tensor[some] = BitMasks(amodal[some]).get_bounding_boxes().tensor.to(boxes.tensor)
        result.set(fields.PRED_BOXES, boxes)
        for name, masks in (
            (fields.PRED_VISIBLE_MASKS, visible),
            (fields.PRED_AMODAL_MASKS, amodal),
            (fields.PRED_MASKS, amodal),
        ):
            result.set(name, masks)
        for name, values in found.items():
            result.set(name, values)
        if self.options.rescore and result.has(fields.SCORES):
            used = found[fields.MT_REF_ID] >= 0
            factor = torch.where(used, found[fields.MT_SCORE] ** self.options.rescore, 1.0)
            result.set(fields.SCORES, result.get(fields.SCORES) * factor)
        return result


def _new_fields(count: int, device: torch.device) -> dict[str, Tensor]:
    return {
        fields.MT_REF_ID: torch.full((count,), -1, dtype=torch.int64, device=device),
        fields.MT_SCORE: torch.zeros(count, device=device),
        fields.MT_CENTER: torch.zeros(count, 2, device=device),
        fields.MT_SCALE: torch.zeros(count, device=device),
    }


def encode_references(
    network: TransferNetwork,
    crops: list[Tensor],
    masks: list[Tensor],
    classes: list[int],
    sources: list[str],
) -> ReferenceBank:
    """Encode complete objects at their own true scale.

    Args:
        network: in evaluation mode.
        crops (list[Tensor[3, H, W]]): normalised images of the objects' boxes.
        masks (list[Tensor[H, W]]): bool.
        classes (list[int]): contiguous class indices.
        sources (list[str]): where they come from.

    Returns:
        ReferenceBank: in the given order.

    Raises:
        ValueError: if there is none.
    """
    concepts, small = [], []
    with torch.no_grad():
        for crop, mask in zip(crops, masks, strict=True):
            scale = min(crop.shape[-2:]) / network.short_side
            patch = rescale(crop, scale, network.longest)
            concepts += network.encoder([patch.image])
            small.append(rescale(mask[None].float(), scale, network.longest).image[0] >= 0.5)
    return ReferenceBank.from_references(concepts, small, classes, sources, network.fingerprint())
