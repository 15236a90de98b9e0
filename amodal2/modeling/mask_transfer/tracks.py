"""Mask transfer for an object of a video: one reference through all frames.

Shapes: T frames, S of them that show the object, R references, H W frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.queries import Match, Query, Scene
from amodal2.modeling.mask_transfer.transfer import Placement, transfer_masks, unite_with_visible
from amodal2.structures import fields


@torch.no_grad()
def complete_track(
    transferrer: MaskTransferrer, scenes: Sequence[Scene], class_id: int
) -> list[Tensor]:
    """Complete an object in the frames of a video.

    With ``TRACK_VOTE`` the log-odds of every reference are averaged over the frames that show the
    object, so that all of them have the same one, and its centre and scale are smoothed over time
    (``TRACK_SMOOTH``); in frames between them that do not show it, both are interpolated. Without
    it every frame is completed by itself.

    Args:
        transferrer: with references of the class.
        scenes: T frames with the masks of the object and of the others.
        class_id: contiguous class index.

    Returns:
        list[Tensor]: T masks (bool [H, W]); where nothing can be transferred, the visible ones.
    """
    found = [scene.visible.clone() for scene in scenes]
    queries = {
        t: query for t, scene in enumerate(scenes) for query in _query(transferrer, scene, class_id)
    }
    if not queries:
        return found
    options = transferrer.options
    if not options.track_vote:
        for t, query in queries.items():
            mask, _, score, _ = transferrer.complete(query, scenes[t])
            if score >= options.min_score and bool(mask.any()):
                found[t] = mask
        return found
    matches = _share(transferrer, queries)
    logits = next(iter(matches.values())).logits
    best = transferrer.best(logits)
    if float(logits[best[0]].sigmoid()) < options.min_score:
        return found
    placements, ranks = _place(transferrer, queries, matches, best, scenes)
    kept = ranks.topk(min(options.topk, len(ranks))).indices
    index = best[kept]
    for t, placement in placements.items():
        placed = placement.take(kept)
        if t in queries:
            mask = transferrer.fuse(queries[t], index, ranks[kept], placed, scenes[t])
        else:
            query = next(iter(queries.values()))
            mask = _hidden(transferrer, query, index, ranks[kept], placed, scenes[t])
        if bool(mask.any()):
            found[t] = mask
    return found


def _query(transferrer: MaskTransferrer, scene: Scene, class_id: int) -> list[Query]:
    """Return the query of a frame, if it shows the object."""
    visible = scene.visible[None]
    if not visible.any():
        return []
    one = Instances((visible.shape[1], visible.shape[2]))
    one.set(fields.PRED_BOXES, BitMasks(visible).get_bounding_boxes())
    one.set(fields.PRED_CLASSES, torch.tensor([class_id], device=visible.device))
    return transferrer.encode(scene.image, one, visible)


def _share(transferrer: MaskTransferrer, queries: dict[int, Query]) -> dict[int, Match]:
    """Return matches with the same log-odds in all frames from the first to the last query."""
    own = [transferrer.match(query) for query in queries.values()]
    times = list(queries)
    logits = torch.stack([match.logits for match in own]).mean(dim=0)
    sigma = transferrer.options.track_smooth
    middles = smooth(torch.stack([match.middles.flatten() for match in own]), times, sigma)
    scales = smooth(torch.stack([match.scale.log() for match in own]), times, sigma).exp()
    index = own[0].index
    return {
        times[0] + t: Match(index, logits, middle.view(-1, 2), scale)
        for t, (middle, scale) in enumerate(zip(middles, scales, strict=True))
    }


def _place(
    transferrer: MaskTransferrer,
    queries: dict[int, Query],
    matches: dict[int, Match],
    best: Tensor,
    scenes: Sequence[Scene],
) -> tuple[dict[int, Placement], Tensor]:
    """Place the best references in every frame; return their ranks, too."""
    placements, fits = {}, []
    for t, match in matches.items():
        if t in queries:
            placements[t] = transferrer.place(queries[t], match, best, scenes[t])
            if transferrer.options.rerank:
                fits.append(transferrer.agreements(queries[t], best, placements[t], scenes[t]))
        else:
            placements[t] = Placement(match.middles[best], match.scale.expand(len(best), 2))
    ranks = next(iter(matches.values())).logits[best]
    if fits:
        ranks = ranks + transferrer.options.rerank * torch.stack(fits).mean(dim=0)
    return placements, ranks


def _hidden(
    transferrer: MaskTransferrer,
    query: Query,
    index: Tensor,
    ranks: Tensor,
    placement: Placement,
    scene: Scene,
) -> Tensor:
    """Average placed references in a frame that does not show the object (bool [H, W])."""
    bank = transferrer.class_bank(query.class_id, scene.visible.device)
    assert bank is not None, "it has queries"
    size = (scene.visible.shape[0], scene.visible.shape[1])
    soft = transfer_masks(bank.masks[index], bank.sizes[index], placement, size)
    mask = (soft * ranks.softmax(dim=0)[:, None, None]).sum(dim=0) >= 0.5
    if transferrer.options.union_visible:
        visible, others = scene.visible[None], scene.others[None]
        mask = unite_with_visible(mask[None], visible, others, transferrer.options.ring)[0]
    return mask


def smooth(values: Tensor, times: Sequence[int], sigma: float) -> Tensor:
    """Smooth values over time and fill the gaps between them.

    Each value becomes that of a straight line fitted to its neighbours, weighted by a Gaussian, so
    that steady motion stays as it is, at the ends as well. Frames in between are interpolated.

    Args:
        values (Tensor[S, D]): of some frames.
        times: S numbers of these frames, rising.
        sigma: of the Gaussian in frames; 0 leaves the values alone.

    Returns:
        Tensor[T, D]: of all frames from the first to the last one of these.
    """
    known = torch.tensor(times, dtype=values.dtype, device=values.device)
    if sigma > 0:
        weights = torch.exp(-0.5 * ((known[:, None] - known) / sigma) ** 2)  # [S, S]
        weights = weights / weights.sum(dim=1, keepdim=True)
        mean_time, mean = weights @ known, weights @ values
        offset = known[None] - mean_time[:, None]
        spread = (weights * offset**2).sum(dim=1)
        slope = (weights * offset) @ values / spread.clamp(min=1e-6)[:, None]
        values = mean + slope * (known - mean_time)[:, None]
    wanted = torch.arange(times[0], times[-1] + 1, device=values.device, dtype=values.dtype)
    right = torch.searchsorted(known, wanted).clamp(min=1 if len(times) > 1 else 0)
    left = (right - 1).clamp(min=0)
    share = (wanted - known[left]) / (known[right] - known[left]).clamp(min=1)
    return torch.lerp(values[left], values[right], share[:, None])


def without_classes(transferrer: MaskTransferrer) -> MaskTransferrer:
    """Return a transferrer for which all references are of the class 0."""
    bank = replace(transferrer.bank, classes=torch.zeros_like(transferrer.bank.classes))
    return MaskTransferrer(transferrer.network, bank, transferrer.options)
