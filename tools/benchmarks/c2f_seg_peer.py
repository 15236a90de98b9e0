"""The official call pattern of C2F-Seg, with stock functions around our modules' weights.

One object at a time: every decoding pass embeds the image features and the visible codes anew and
sorts all logits, the number of unknown positions is read back by the host in every pass, the
refinement runs both branches, and the mask goes to the host before it is pasted
(``batch_predict_maskgit`` and ``align_raw_size`` of the official code; shared/reference/c2f_seg.md,
sections 3.5 and 3.6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.c2f_seg.decoding import CodeChoice


def decode_official(
    transformer: Any,
    features: Tensor,
    visible: Tensor,
    choice: CodeChoice,
    *,
    steps: int = 3,
    top_k: int = 3,
    temperature: float = 4.5,
) -> tuple[list[Tensor], Tensor]:
    """Return the codes before each pass, and the last ones (Tensor[B, L])."""
    mask = transformer.mask_index
    current = torch.full_like(visible, mask)
    beginning = (current == mask).sum(-1)
    seen = []
    for step in range(steps):
        seen.append(current)
        logits = transformer(features, visible, current)[..., :-1]
        ordered, _ = torch.sort(logits, dim=-1, descending=True)
        logits = logits.clone()
        logits[logits < ordered[..., [top_k - 1]]] = -math.inf
        probabilities = torch.softmax(logits, dim=-1)
        unknown = current == mask
        sampled = torch.where(unknown, choice.codes(probabilities), current)
        ratio = (step + 1) / steps
        wanted = torch.floor(beginning * math.cos(ratio * math.pi / 2))
        chosen = torch.gather(probabilities, 2, sampled[..., None]).squeeze(-1)
        chosen = torch.where(unknown, chosen, math.inf)
        left = [
            max(1, min(int(n) - 1, int(w))) for n, w in zip(unknown.sum(-1), wanted, strict=True)
        ]
        confidence = torch.log(chosen) + temperature * (1 - ratio) * choice.noise(chosen)
        ranked, _ = torch.sort(confidence, dim=-1)
        cut = torch.gather(ranked, 1, torch.tensor(left, device=ranked.device)[:, None])
        current = torch.where(confidence < cut, mask, sampled)
    return seen, sampled


def finish_official(
    autoencoder: Any, refine: Any, features: Sequence[Tensor], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coarse mask and the logits of visible and amodal mask."""
    side = round(codes.shape[1] ** 0.5)
    values = autoencoder.quantize.embedding(codes.flatten()).view(len(codes), side, side, -1)
    values = values.permute(0, 3, 1, 2).contiguous()
    coarse = decode_plainly(autoencoder, values).clamp(0, 1).mean(1, keepdim=True)
    visible, amodal = refine(features, coarse)
    return coarse, visible, amodal


def decode_plainly(autoencoder: Any, values: Tensor) -> Tensor:
    """Decode with a convolution of every doubled map, as the official decoder does."""
    decoder = autoencoder.decoder
    x = decoder.mid(decoder.conv_in(autoencoder.post_quant_conv(values)))
    for level in reversed(decoder.up):
        for block in level.block:
            x = block(x)
        if level.step:
            x = level.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    return decoder.conv_out(F.silu(decoder.norm_out(x)))


def complete_official(model: Any, images: Tensor, visible: Tensor, choice: CodeChoice) -> Tensor:
    """Complete objects one by one.

    Args:
        model: a ``C2FSeg`` for images.
        images (Tensor[B, 3, S, S]): float RGB in [0, 1].
        visible (Tensor[B, S, S]): bool.
        choice: of the codes.

    Returns:
        Tensor[B, S, S]: probabilities, on the host.
    """
    found = []
    for image, mask in zip(images, visible, strict=True):
        levels = model.backbone(image[None])
        features = [levels[name] for name in ("res2", "res3", "res4", "res5")]
        source = model.g_model.indices(mask[None])
        options = model.options
        _, codes = decode_official(
            model.model,
            features[-1],
            source,
            choice,
            steps=options.steps,
            top_k=options.top_k,
            temperature=options.temperature,
        )
        _, _, amodal = finish_official(model.g_model, model.refine, features, codes)
        whole = F.interpolate(amodal, scale_factor=2.0, mode="nearest").sigmoid()
        found.append(whole[0, 0].cpu())
    return torch.stack(found)
