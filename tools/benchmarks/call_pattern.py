"""The calls of the official code of Mask2Former, VITA and GenVIS, with the weights of our modules.

| ours | official calls |
|---|---|
| ``MultiheadAttention`` | ``nn.MultiheadAttention`` (``F.multi_head_attention_forward``) with sequence first and need_weights, its bool mask repeated for every head, rows without an allowed key opened by ``torch.where`` |
| ``MSDeformAttn`` | ``ms_deform_attn_core_pytorch``: ``F.grid_sample`` of each level of every frame and head, the samples stacked, weighted and summed |
| ``Conv3x3`` | ``F.conv2d`` |
| masks of the mask decoder | at every layer class logits and masks at stride 4, ``F.interpolate`` of the logits, sigmoid, threshold |

Everything else is ours: the backbone, other convolutions, feed-forward layers, heads, GenVIS's memory
(where the official product of all slots with all slots is left out) and A2VIS, whose authors have
published no code.
"""  # noqa: E501 a table

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from amodal2.layers import Conv3x3, MultiheadAttention, sine_position_2d
from amodal2.modeling.mask_classification.pixel_decoder import MSDeformAttn
from amodal2.modeling.mask_classification.transformer_decoder import (
    DecoderOutput,
    MultiScaleMaskedTransformerDecoder,
)


class OfficialAttention(MultiheadAttention):
    """The stock layer, called as the official layers call it."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        allow: Tensor | None = None,
        null_key: Tensor | None = None,
    ) -> Tensor:
        """Read values; see :class:`MultiheadAttention`."""
        if null_key is not None or self.softmax_axis != "local":
            raise ValueError(
                "OfficialAttention: expected MODEL.A2VIS.UPDATE without NULL_TOKEN and with "
                "SOFTMAX_AXIS local, got others; the stock layer knows no others"
            )
        mask = None
        if allow is not None:
            forbidden = ~allow.repeat(1, 1, key.shape[1] // allow.shape[2])
            mask = forbidden.unsqueeze(1).repeat(1, self.num_heads, 1, 1).flatten(0, 1)
            mask[torch.where(mask.sum(-1) == mask.shape[-1])] = False
        q, k, v = (x.transpose(0, 1) for x in (query, key, value))
        read, _ = F.multi_head_attention_forward(
            *(q, k, v, q.shape[-1], self.num_heads, self.in_proj_weight, self.in_proj_bias),
            *(None, None, False, 0.0, self.out_proj.weight, self.out_proj.bias),
            training=self.training,
            need_weights=True,
            attn_mask=mask,
        )
        return read.transpose(0, 1)


class OfficialDeformAttn(MSDeformAttn):
    """Deformable attention out of ``grid_sample``."""

    def forward(
        self, query: Tensor, reference: Tensor, source: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Sample the levels; see :class:`MSDeformAttn`."""
        batch, length, channels = query.shape
        heads, levels, points = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(source).view(batch, length, heads, channels // heads)
        offsets = self.sampling_offsets(query).view(batch, length, heads, levels, points, 2)
        weights = self.attention_weights(query).view(batch, length, heads, levels * points)
        weights = weights.softmax(-1).transpose(1, 2).reshape(batch * heads, 1, length, -1)
        sizes = torch.tensor([(w, h) for h, w in shapes], device=query.device)
        locations = reference[None, :, None, None, None] + offsets / sizes[:, None]
        grids = 2 * locations - 1
        sampled = []
        parts = value.split([h * w for h, w in shapes], dim=1)
        for level, (part, (h, w)) in enumerate(zip(parts, shapes, strict=True)):
            maps = part.flatten(2).transpose(1, 2).reshape(batch * heads, -1, h, w)
            grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
            sampled.append(F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=False))
        read = (torch.stack(sampled, dim=-2).flatten(-2) * weights).sum(-1)
        return self.output_proj(read.view(batch, channels, length).transpose(1, 2).contiguous())


class OfficialConv(Conv3x3):
    """The stock convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; see :class:`Conv3x3`."""
        return Conv2d.forward(self, x)


class OfficialDecoder(MultiScaleMaskedTransformerDecoder):
    """The mask decoder with full predictions after every layer."""

    def forward(
        self, levels: list[Tensor], mask_features: Tensor, *, predict: bool = True, last: int = 1
    ) -> DecoderOutput:
        """Decode; see :class:`MultiScaleMaskedTransformerDecoder`."""
        batch, memories, codes = len(mask_features), [], []
        for x, proj, embed in zip(levels, self.input_proj, self.level_embed.weight, strict=True):
            memories.append(proj(x).flatten(2).transpose(1, 2) + embed)
            code = sine_position_2d(*x.shape[-2:], memories[-1].shape[-1], x)
            codes.append(code.flatten(1).t()[None])
        state = self.query_feat.weight[None].expand(batch, -1, -1)
        query_pos = self.query_embed.weight[None].expand(batch, -1, -1)
        normed, queries = self.decoder_norm(state), []
        predictions = [self.predict(normed, mask_features)]
        steps = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for i, (cross, attend, ffn) in enumerate(steps):
            level = i % self.num_levels
            allow = self.attention_mask(predictions[-1].mask_logits, levels[level].shape[-2:])
            memory, code = memories[level], codes[level]
            state = cross(state, memory, query_pos=query_pos, key_pos=code, allow=allow)
            state = ffn(attend(state, query_pos))
            normed = self.decoder_norm(state)
            queries.append(normed)
            predictions.append(self.predict(normed, mask_features))
        kept = (predictions if self.training else predictions[-last:]) if predict else []
        return DecoderOutput(kept, torch.stack(queries))

    def attention_mask(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Foreground of the masks (Tensor[B, N, h, w] of logits) at a level's size, [B, N, P]."""
        resized = F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)
        return resized.sigmoid().flatten(2) >= 0.5


PAIRS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (MultiheadAttention, OfficialAttention),
    (MSDeformAttn, OfficialDeformAttn),
    (Conv3x3, OfficialConv),
    (MultiScaleMaskedTransformerDecoder, OfficialDecoder),
)
"""Our modules and those with the official calls."""

TIMED: tuple[tuple[type[nn.Module], str, tuple[str, ...]], ...] = (
    (MultiheadAttention, "attention", ("forward",)),
    (MSDeformAttn, "deformable attention", ("forward",)),
    (Conv3x3, "convolutions", ("forward",)),
    (OfficialDecoder, "masks of the decoder", ("attention_mask", "predict")),
    (MultiScaleMaskedTransformerDecoder, "masks of the decoder", ("_attention_mask", "predict")),
)
"""Methods that do the same in ours and in the official calls, and what the table calls them."""


def use_official_calls(model: nn.Module) -> None:
    """Let the modules of a model make the official calls; parameters and results stay the same.

    Args:
        model: a system, or a part of one; changed in place.
    """
    for module in model.modules():
        for ours, official in PAIRS:
            if type(module) is ours:
                module.__class__ = official


@contextmanager
def timed_calls(model: nn.Module, clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Yield the seconds inside of what the official calls replace, which fill as it runs."""
    seconds: defaultdict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            result = call(*args, **kwargs)
            seconds[name] += clock() - start
            return result

        return run

    places = []
    for module in model.modules():
        for kind, name, methods in TIMED:
            if isinstance(module, kind):
                places += [(module, method, name) for method in methods]
                break
    for module, method, name in places:
        setattr(module, method, timed(name, getattr(module, method)))
    try:
        yield seconds
    finally:
        for module, method, _ in places:
            delattr(module, method)
