"""From boxes and visible masks to amodal masks by a bank of references (Sec. 3.4).

Shapes: N objects, H W image, R references of a class, V concepts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from amodal2.modeling.mask_transfer.correlation import BankSpectra
from amodal2.modeling.mask_transfer.network import TransferNetwork
from amodal2.modeling.mask_transfer.options import NET_REFINEMENTS, TransferOptions
from amodal2.modeling.mask_transfer.patches import rescale, whole_box
from amodal2.modeling.mask_transfer.queries import Match, Query, Scene
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.modeling.mask_transfer.refine_net import paste_window, sample_region, window_points
from amodal2.modeling.mask_transfer.transfer import (
    Placement,
    agreement,
    image_points,
    others_of,
    refine_affine,
    transfer_masks,
    unite_with_visible,
)
from amodal2.modeling.mask_transfer.voting_branch import peaks, valid_votes, vote_places
from amodal2.structures import fields

_RERANKED = 8


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


class MaskTransferrer:
    """Completes objects by masks of similar, complete ones.

    Args:
        network: trained; it is used in evaluation mode.
        bank: encoded by this network.
        options: switches.

    Raises:
        ValueError: if another network has encoded the bank, or the network has no refinement and
            the options ask for it.
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
        if options.refine in NET_REFINEMENTS and network.refine is None:
            raise ValueError(
                f"MaskTransferrer: expected a network with a refinement for REFINE "
                f"{options.refine!r}, got none; train it with 'refine' in MODEL.MASK_TRANSFER.TRAIN"
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
        for query in self.encode(image, instances, visible):
            n = query.number
            scene = Scene(image, visible[n], others[n])
            mask, reference, score, centre = self.complete(query, scene)
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

    def encode(self, image: Tensor, instances: Instances, visible: Tensor) -> list[Query]:
        """Cut, rescale and encode the objects that have a box and references.

        Args:
            image (Tensor[3, H, W]): normalised.
            instances: N objects with ``pred_boxes`` and ``pred_classes``.
            visible (Tensor[N, H, W]): bool.

        Returns:
            list[Query]: in the order of the objects.
        """
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
            Query(n, classes[n], patch, maps, scale)
            for (n, _), patch, maps, scale in zip(chosen, patches, concepts, scales, strict=True)
        ]

    def complete(self, query: Query, scene: Scene) -> tuple[Tensor, int, float, Tensor]:
        """Complete one object.

        Args:
            query: of :meth:`encode`.
            scene: around it.

        Returns:
            tuple: mask (bool [H, W]), number of the reference in the bank, its probability, and the
            object's centre (x, y).
        """
        match = self.match(query)
        best = self.best(match.logits)
        placement = self.place(query, match, best, scene)
        ranks = match.logits[best]
        if self.options.rerank:
            fit = self.agreements(query, match.index[best], placement, scene)
            ranks = ranks + self.options.rerank * fit
        kept = ranks.topk(min(self.options.topk, len(ranks))).indices
        mask = self.fuse(query, match.index[best][kept], ranks[kept], placement.take(kept), scene)
        first = kept[0]
        reference = int(self._own_bank(query).ids[int(match.index[best[first]])])
        score = float(match.logits[best[first]].sigmoid())
        return mask, reference, score, placement.centre[first]

    def best(self, logits: Tensor) -> Tensor:
        """Return the places of the references that are looked at more closely, best first."""
        count = max(self.options.topk, _RERANKED if self.options.rerank else 1)
        return logits.topk(min(count, len(logits))).indices

    def place(self, query: Query, match: Match, best: Tensor, scene: Scene) -> Placement:
        """Place references where the votes say, and with ``REFINE`` where they fit.

        Args:
            query: the object.
            match: of it.
            best (Tensor[K]): places in ``match``.
            scene: around it.

        Returns:
            Placement: of K references.
        """
        middles = match.middles[best]
        placement = Placement(middles, match.scale.expand_as(middles))
        if self.options.refine not in ("affine", "affine_net"):
            return placement
        masks, sizes, seen, hidden = self._maps(query, match.index[best], scene)
        return refine_affine(masks, sizes, placement, seen, hidden)

    def agreements(self, query: Query, index: Tensor, placement: Placement, scene: Scene) -> Tensor:
        """Return how well K placed references agree with the visible mask (Tensor[K])."""
        masks, sizes, seen, hidden = self._maps(query, index, scene)
        soft = transfer_masks(masks, sizes, placement, _size(scene))
        return agreement((soft >= 0.5).float(), seen, hidden)

    def fuse(
        self, query: Query, index: Tensor, ranks: Tensor, placement: Placement, scene: Scene
    ) -> Tensor:
        """Average placed references and apply ``REFINE``, ``CLIP_TO_BOX`` and ``UNION_VISIBLE``.

        Args:
            query: the object.
            index (Tensor[K]): references of the class.
            ranks (Tensor[K]): logits of their weights.
            placement: of them.
            scene: around the object.

        Returns:
            Tensor[H, W]: bool.
        """
        bank = self._own_bank(query)
        soft = transfer_masks(bank.masks[index], bank.sizes[index], placement, _size(scene))
        mask = (soft * ranks.softmax(dim=0)[:, None, None]).sum(dim=0)
        if self.options.refine in NET_REFINEMENTS:
            mask = self._correct(query, mask, scene)
        mask = mask >= 0.5
        if self.options.clip_to_box:
            mask = mask & _inside(query.box, image_points(_size(scene), mask.device))
        if self.options.union_visible:
            visible, others = scene.visible[None], scene.others[None]
            mask = unite_with_visible(mask[None], visible, others, self.options.ring)[0]
        return mask

    def _correct(self, query: Query, mask: Tensor, scene: Scene) -> Tensor:
        """Apply the refinement network to a soft mask [H, W]."""
        assert self.network.refine is not None, "checked with the options"
        points = window_points(query.box[None])
        region = {
            "image": scene.image,
            "visible": scene.visible.float(),
            "mask": mask,
            "others": scene.others.float(),
            "origin": mask.new_zeros(2),
        }
        maps = sample_region(region, points)
        found = self.network.refine(
            *(maps[name][None] for name in ("image", "visible", "mask", "others"))
        )[0].sigmoid()
        return paste_window(found, query.box, image_points(_size(scene), mask.device), mask)

    def _maps(
        self, query: Query, index: Tensor, scene: Scene
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return masks and sizes of K references, and visible masks and others K times."""
        bank = self._own_bank(query)
        seen, hidden = (
            mask.float().expand(len(index), *_size(scene)) for mask in (scene.visible, scene.others)
        )
        return bank.masks[index], bank.sizes[index], seen, hidden

    def _own_bank(self, query: Query) -> _ClassBank:
        bank = self.class_bank(query.class_id, query.concepts.device)
        assert bank is not None, "only objects whose class has references are encoded"
        return bank

    def match(self, query: Query) -> Match:
        """Let a query vote against the references of its class.

        Args:
            query: of :meth:`encode`.

        Returns:
            Match: with all references, or with ``SHORTLIST`` those most like the query.
        """
        bank = self._own_bank(query)
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
        valid = valid_votes(query_sizes, cells, padded, shape, border=network.border)
        logits = network.score(own_votes, valid, many, query_sizes, references, cells)
        places = peaks(votes, valid, subpixel=self.options.subpixel)
        centres = vote_places(places, bank.centres[index], padded)
        origin, scale = concepts.new_tensor([query.patch.origin, query.patch.scale])
        return Match(
            index, logits, origin + scale * network.encoder.stride * centres.flip(1), scale
        )

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


def _inside(box: Tensor, points: Tensor) -> Tensor:
    """Tell which points (Tensor[1, H, W, 2]) lie in a box (bool Tensor[H, W])."""
    return ((points >= box[:2]) & (points < box[2:])).all(dim=-1)[0]


def _size(scene: Scene) -> tuple[int, int]:
    return scene.visible.shape[0], scene.visible.shape[1]


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
