"""Mask transfer as a whole: training on pairs of query and reference, inference on proposals.

Shapes: P pairs, V concepts, H W image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.network import TransferNetwork, build_network
from amodal2.modeling.mask_transfer.options import TransferOptions
from amodal2.modeling.mask_transfer.patches import Patch, rescale, stack_padded
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.modeling.mask_transfer.refine_net import refine_loss, sample_region, window_points
from amodal2.modeling.mask_transfer.scale_net import scale_loss, scale_of, true_scale
from amodal2.modeling.mask_transfer.score_branch import score_loss
from amodal2.modeling.mask_transfer.transfer import Placement, warp_masks
from amodal2.modeling.mask_transfer.voting_branch import (
    peaks,
    valid_votes,
    vote_loss,
    vote_places,
)
from amodal2.structures import fields

PARTS = ("scale", "vote", "score", "refine")


@dataclass
class PairOutputs:
    """What the branches say about pairs.

    Attributes:
        votes (Tensor[P, Hz, Wz]): Z.
        own_votes (Tensor[P, Hz, Wz]): Z' of the score branch.
        valid (Tensor[P, Hz, Wz]): bool.
        places (Tensor[P, 2]): u* in cells, order (y, x).
        extents (Tensor[P, 2]): height and width of the whole objects in cells.
        logits (Tensor[P]): of the score branch.
        positive (Tensor[P]): bool.
        middles (Tensor[P, 2]): x, y of the voted centres in pixels of the queries' crops.
        scales (Tensor[P, 2]): crop pixels per patch pixel, along x and y.
        numbers (list[tuple[int, int]]): sample of the query, and which of its references.
    """

    votes: Tensor
    own_votes: Tensor
    valid: Tensor
    places: Tensor
    extents: Tensor
    logits: Tensor
    positive: Tensor
    middles: Tensor
    scales: Tensor
    numbers: list[tuple[int, int]]

    def centre_errors(self, *, subpixel: bool = False) -> Tensor:
        """Return |Δx| / W and |Δy| / H (Tensor[P', 2]) of the voted centres of positive pairs."""
        found = peaks(self.votes, self.valid, subpixel=subpixel)
        error = ((found - self.places).abs() / self.extents)[self.positive]
        return error.flip(1)


@META_ARCH_REGISTRY.register()
class MaskTransfer(nn.Module):
    """Scale, votes and scores learnt on pairs; masks transferred from a bank of references.

    Args:
        network: the trained parts.
        train_parts: which of ``PARTS`` are trained; the others keep their weights.
        options: switches of inference.
        bank: file of the bank, "" if there is none yet.
        tau_pos: overlap from which a pair is positive.
        tau_neg: overlap up to which a pair is negative.
        sigma: width of the votes' target, see ``target_votes``.
        eps: weight of the vote loss of the score branch.
        gt_scale: probability that a query of a training pair has its true scale.
        pixel_mean: per channel.
        pixel_std: per channel.
        image_format: order of the channels, "BGR" or "RGB".

    Raises:
        ValueError: if a part is unknown or the thresholds are not in order.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        network: TransferNetwork,
        train_parts: tuple[str, ...] = ("scale", "vote", "score"),
        options: TransferOptions | None = None,
        bank: str = "",
        tau_pos: float = 0.75,
        tau_neg: float = 0.55,
        sigma: float = 0.05,
        eps: float = 0.1,
        gt_scale: float = 0.0,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        image_format: str = "BGR",
    ) -> None:
        super().__init__()
        if not train_parts or not set(train_parts) <= set(PARTS):
            raise ValueError(
                f"MaskTransfer: expected MODEL.MASK_TRANSFER.TRAIN of {PARTS}, got {train_parts}"
            )
        if not 0 <= tau_neg < tau_pos <= 1:
            raise ValueError(
                f"MaskTransfer: expected 0 <= TAU_NEG < TAU_POS <= 1, got {tau_neg} and {tau_pos}"
            )
        self.network, self.train_parts = network, frozenset(train_parts)
        self.options, self.bank = options or TransferOptions(), bank
        self.tau_pos, self.tau_neg, self.sigma, self.eps = tau_pos, tau_neg, sigma, eps
        self.gt_scale = gt_scale
        self.image_format = image_format
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self._transferrer: MaskTransferrer | None = None
        for module in self._fixed_parts():
            module.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.MODEL.MASK_TRANSFER
        return {
            "network": build_network(cfg),
            "train_parts": tuple(node.TRAIN),
            "options": TransferOptions.from_config(cfg),
            "bank": node.BANK,
            "tau_pos": node.TAU_POS,
            "tau_neg": node.TAU_NEG,
            "sigma": node.SIGMA,
            "eps": node.EPS,
            "gt_scale": node.GT_SCALE,
            "pixel_mean": tuple(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": tuple(cfg.MODEL.PIXEL_STD),
            "image_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> MaskTransfer:
        """Switch to training or evaluation; parts that are not trained stay in evaluation mode."""
        super().train(mode)
        self._transferrer = None
        for module in self._fixed_parts():
            module.eval()
        return self

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """Return losses in training, completed objects otherwise.

        Args:
            batch: samples of the mapper ``TransferPairMapper``. In training each has "image" (uint8
                Tensor[3, h, w], the proposal's crop), "mask" (bool Tensor[h, w]), "amodal_box" (x0,
                y0, x1, y1 in the crop's pixels) and "references", dicts with "image" (a complete
                object's crop), "mask" (bool, its own) and "overlap" (of the masks, 0 to 1), and, to
                train "refine", "around": what lies about the crop, see the mapper. In tests each
                has "image" (Tensor[3, H, W]) and "proposals" (``Instances`` with ``pred_boxes``,
                ``pred_classes`` and ``pred_visible_masks`` or ``pred_masks``).

        Returns:
            dict[str, Tensor] | list[dict]: ``loss_scale``, ``loss_vote``, ``loss_score`` and
            ``loss_refine``, of the parts that are trained; in tests a dict with ``instances`` per
            sample.

        Raises:
            ValueError: in tests, if there is no bank.
        """
        if self.training:
            return self._losses(batch)
        return [{"instances": self.complete(s["image"], s["proposals"])} for s in batch]

    def complete(self, image: Tensor, proposals: Instances) -> Instances:
        """Complete the objects of one image; see ``MaskTransferrer``.

        Args:
            image (Tensor[3, H, W]): in the format of the config, 0 to 255.
            proposals: objects at the size of the image.

        Returns:
            Instances: with amodal masks.

        Raises:
            ValueError: if there is no bank, or the proposals have no masks.
        """
        names = (fields.PRED_VISIBLE_MASKS, fields.PRED_MASKS)
        name = next((name for name in names if proposals.has(name)), None)
        if name is None:
            raise ValueError(
                f"MaskTransfer: expected proposals with one of {names}, got "
                f"{sorted(proposals.get_fields())}"
            )
        proposals = proposals.to(self.device)
        return self._transfer_with_bank()(
            self.normalize(image), proposals, proposals.get(name).to(torch.bool)
        )

    def set_options(self, options: TransferOptions) -> None:
        """Change the switches of inference; the bank that was read is kept."""
        self.options = options
        if self._transferrer is not None:
            self._transferrer.options = options

    def normalize(self, image: Tensor) -> Tensor:
        """Return an image (Tensor[3, H, W], 0 to 255) as the network takes it."""
        return (image.to(self.device, torch.float32) - self.pixel_mean) / self.pixel_std

    def normalize_rgb(self, images: Tensor) -> Tensor:
        """Return images (float Tensor[..., 3, H, W], RGB in [0, 1]) as the network takes them."""
        ordered = images.flip(-3) if self.image_format == "BGR" else images
        return self.normalize(255 * ordered)

    def measure_pairs(self, batch: list[dict[str, Any]]) -> tuple[PairOutputs | None, Tensor]:
        """Run all branches on training samples.

        Args:
            batch: as in training.

        Returns:
            tuple: outputs of the pairs, None if no reference is usable, and log(ŝ / s) of every
            query (Tensor[B]).
        """
        crops = [self.normalize(sample["image"]) for sample in batch]
        masks = [sample["mask"].to(self.device) for sample in batch]
        ratios, sizes = self.network.predict_ratios(crops, masks)
        scales = scale_of(ratios, sizes, self.network.short_side).detach()
        truth = self._true_scales(batch)
        return self._run_pairs(batch, crops, scales), torch.log(scales / truth)

    def _losses(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        crops = [self.normalize(sample["image"]) for sample in batch]
        masks = [sample["mask"].to(self.device) for sample in batch]
        truth = self._true_scales(batch)
        with torch.set_grad_enabled("scale" in self.train_parts):
            ratios, sizes = self.network.predict_ratios(crops, masks)
        losses = {}
        if "scale" in self.train_parts:
            losses["loss_scale"] = scale_loss(ratios, truth, sizes, self.network.short_side)
        if not self.train_parts - {"scale"}:
            return losses
        scales = scale_of(ratios.detach(), sizes, self.network.short_side)
        exact = torch.rand(len(scales), device=scales.device) < self.gt_scale
        with torch.set_grad_enabled(bool(self.train_parts & {"vote", "score"})):
            pairs = self._run_pairs(batch, crops, torch.where(exact, truth, scales))
            losses |= self._pair_losses(pairs)
        if "refine" in self.train_parts:
            losses["loss_refine"] = self._refine_loss(batch, crops, pairs)
        return losses

    def _refine_loss(
        self, batch: list[dict[str, Any]], crops: list[Tensor], pairs: PairOutputs | None
    ) -> Tensor:
        """Correct what each reference of the pairs transfers, and compare it with the truth."""
        refine = self.network.refine
        assert refine is not None, "it is built when it is trained"
        if pairs is None:
            return 0.0 * torch.stack([p.sum() for p in refine.parameters()]).sum()
        inputs = []
        for n, (sample, reference) in enumerate(pairs.numbers):
            height, width = crops[sample].shape[1:]
            points = window_points(crops[sample].new_tensor([[0.0, 0.0, width, height]]))
            maps = sample_region(self._around(batch[sample]["around"]), points)
            crop = batch[sample]["references"][reference]["mask"].to(self.device, torch.float32)
            scale = min(crop.shape) / self.network.short_side
            mask = rescale(crop[None], scale, self.network.longest).image
            size = torch.tensor([mask.shape[1:]], device=self.device)
            placement = Placement(pairs.middles[n : n + 1].detach(), pairs.scales[n : n + 1])
            inputs.append(maps | {"mask": warp_masks(mask, size, placement, points)[0]})
        names = ("image", "visible", "mask", "others", "amodal")
        stacked = [torch.stack([maps[name] for maps in inputs]) for name in names]
        return refine_loss(refine(*stacked[:4]), stacked[4])

    def _around(self, around: dict[str, Any]) -> dict[str, Tensor]:
        """Bring what lies about a crop to the device, as numbers."""
        masks = {
            k: around[k].to(self.device, torch.float32) for k in ("visible", "others", "amodal")
        }
        origin = torch.tensor(around["origin"], dtype=torch.float32, device=self.device)
        return masks | {"image": self.normalize(around["image"]), "origin": origin}

    def _pair_losses(self, pairs: PairOutputs | None) -> dict[str, Tensor]:
        names = [f"loss_{part}" for part in ("vote", "score") if part in self.train_parts]
        if pairs is None:
            trained = [p.sum() for p in self.network.parameters() if p.requires_grad]
            nothing = 0.0 * torch.stack(trained).sum()
            return dict.fromkeys(names, nothing)
        good = pairs.positive
        losses = {}
        for name, votes in (("loss_vote", pairs.votes), ("loss_score", pairs.own_votes)):
            if name in names:
                losses[name] = vote_loss(
                    votes[good], pairs.places[good], pairs.valid[good], self.sigma
                )
        if "loss_score" in losses:
            losses["loss_score"] = score_loss(pairs.logits, good) + self.eps * losses["loss_score"]
        return losses

    def _true_scales(self, batch: list[dict[str, Any]]) -> Tensor:
        short = self.network.short_side
        scales = [true_scale(sample["amodal_box"], short) for sample in batch]
        return torch.tensor(scales, device=self.device)

    def _run_pairs(
        self, batch: list[dict[str, Any]], crops: list[Tensor], scales: Tensor
    ) -> PairOutputs | None:
        """Encode queries and usable references, and run both branches on every pair."""
        longest, short = self.network.longest, self.network.short_side
        patches: list[Patch] = []
        pairs: list[tuple[int, int, bool]] = []
        numbers: list[tuple[int, int]] = []
        references: list[Patch] = []
        for n, sample in enumerate(batch):
            patches.append(rescale(crops[n], float(scales[n]), longest))
            for r, reference in enumerate(sample["references"]):
                positive = reference["overlap"] >= self.tau_pos
                if positive or reference["overlap"] <= self.tau_neg:
                    crop = self.normalize(reference["image"])
                    pairs.append((n, len(references), positive))
                    numbers.append((n, r))
                    references.append(rescale(crop, min(crop.shape[1:]) / short, longest))
        if not pairs:
            return None
        maps = self.network.encoder([p.image for p in (*patches, *references)])
        seen = [maps[n] for n, _, _ in pairs]
        known = [maps[len(patches) + r] for _, r, _ in pairs]
        boxes = torch.tensor([batch[n]["amodal_box"] for n, _, _ in pairs], device=self.device)
        unit = (
            boxes.new_tensor([patches[n].scale for n, _, _ in pairs]) * self.network.encoder.stride
        )
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / unit
        extent = (boxes[:, 2:] - boxes[:, :2]) / unit
        own = boxes.new_tensor([references[r].size for _, r, _ in pairs])
        found = self._run_branches(
            seen,
            known,
            middle.flip(1),
            own / (2 * self.network.encoder.stride),
            extent.flip(1),
            torch.tensor([positive for _, _, positive in pairs], device=self.device),
        )
        found.middles = found.middles * unit
        found.scales = unit / self.network.encoder.stride
        found.numbers = numbers
        return found

    def _run_branches(
        self,
        seen: list[Tensor],
        known: list[Tensor],
        middle: Tensor,
        reference_middle: Tensor,
        extent: Tensor,
        positive: Tensor,
    ) -> PairOutputs:
        queries, references = stack_padded(seen), stack_padded(known)
        query_sizes = torch.tensor([m.shape[1:] for m in seen], device=self.device)
        reference_sizes = torch.tensor([m.shape[1:] for m in known], device=self.device)
        padded = (queries.shape[2], queries.shape[3])
        arguments = (queries, query_sizes, references, reference_sizes)
        votes = self.network.vote(*arguments)
        own_votes = self.network.score.filter(*arguments)
        shape = (votes.shape[1], votes.shape[2])
        border = self.network.border
        valid = valid_votes(query_sizes, reference_sizes, padded, shape, border=border)
        logits = self.network.score(own_votes, valid, *arguments)
        places = vote_places(middle, reference_middle, padded)
        voted = vote_places(peaks(votes, valid), reference_middle, padded).flip(1)
        return PairOutputs(
            votes, own_votes, valid, places, extent, logits, positive, voted, voted, []
        )

    def _fixed_parts(self) -> list[nn.Module]:
        """Return the modules that are not trained."""
        trained = self.train_parts
        fixed: list[nn.Module] = []
        if "scale" not in trained:
            fixed.append(self.network.scale_net)
        if not trained & {"vote", "score"}:
            fixed.append(self.network.encoder)
        if "vote" not in trained:
            fixed.append(self.network.vote)
        if "score" not in trained:
            fixed.append(self.network.score)
        if "refine" not in trained and self.network.refine is not None:
            fixed.append(self.network.refine)
        return fixed

    def _transfer_with_bank(self) -> MaskTransferrer:
        """Read the bank at its first use."""
        if self._transferrer is None:
            if not self.bank:
                raise ValueError(
                    "MaskTransfer: expected a bank of references, got an empty "
                    "MODEL.MASK_TRANSFER.BANK; make one with tools/build_reference_bank.py"
                )
            bank = ReferenceBank.load(Path(self.bank))
            self._transferrer = MaskTransferrer(self.network, bank, self.options)
        return self._transferrer
