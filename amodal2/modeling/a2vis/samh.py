"""Spatiotemporal-prior Amodal Mask Head, SAMH (A2VIS, Sec. 3.5-3.6, Algorithm 1).

VSPM and ASPM are the visible and amodal spatiotemporal prior masks: the union over the clip's
frames of a slot's visible and amodal masks. Shapes: B videos, N slots, T frames of the clip, C
channels, h w at stride 4.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from amodal2.layers import MLP, Conv3x3, FFNLayer, MultiheadAttention, sine_position_3d
from amodal2.modeling.a2vis.visible_mask_head import dot_product_masks

_NORM_GROUPS = 32


@dataclass
class SAMHOutput:
    """Result of the head for one clip.

    Attributes:
        prototypes (Tensor[B, N, C]): prototypes after the last layer.
        amodal_logits (list of L+1 Tensor[B, N, T, h, w]): before each layer, and the final ones
            last.
        priors (list of L Tensor[B, N, h, w]): bool prior masks that the layers attended in.
    """

    prototypes: Tensor
    amodal_logits: list[Tensor]
    priors: list[Tensor]


class SAMHLayer(nn.Module):
    """Masked cross-attention to the amodal attention features, then self-attention, both post-norm.

    Args:
        dim: channels C.
        num_heads: attention heads.
        ffn_dim: hidden width of a feed-forward block; 0 for none.
    """

    def __init__(self, dim: int, num_heads: int, ffn_dim: int = 0) -> None:
        super().__init__()
        self.cross_attn = MultiheadAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = MultiheadAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = FFNLayer(dim, ffn_dim) if ffn_dim else None

    def forward(
        self,
        p: Tensor,
        query_pos: Tensor | None,
        keys: Tensor,
        values: Tensor,
        allow: Tensor | None,
    ) -> Tensor:
        """Refine the prototypes.

        Args:
            p (Tensor[B, N, C]): prototypes.
            query_pos (Tensor[1, N, C] or None): their position code.
            keys (Tensor[B, S, C]): attention features with position code.
            values (Tensor[B, S, C]): attention features.
            allow (Tensor[B, N, P] or None): bool mask of allowed keys, for every P of the S keys.

        Returns:
            Tensor[B, N, C]: prototypes.
        """
        q = p if query_pos is None else p + query_pos
        p = self.norm1(p + self.cross_attn(q, keys, values, allow))
        q = p if query_pos is None else p + query_pos
        p = self.norm2(p + self.self_attn(q, q, p))
        return p if self.ffn is None else self.ffn(p)


class SAMH(nn.Module):
    """Predict amodal masks from global prototypes inside spatiotemporal prior masks.

    Args:
        dim: channels C.
        num_heads: attention heads.
        num_layers: L.
        num_convs: 3x3 convolutions of the amodal feature extraction; an even number.
        norm: "" or "GN" between these convolutions.
        use_vspm: let the visible masks of the clip into the prior mask.
        use_aspm: let the amodal masks of the clip into the prior mask.
        pos_enc: 3-D sine code on the keys, learned code on the queries.
        attn_stride: stride of the keys, 4, 8 or 16.
        feat_pos: 3-D sine code on the clip features before the convolutions.
        share_layers: one layer's weights for all L steps.
        ffn_dim: hidden width of a feed-forward block per layer; 0 for none.
        residual: add the clip features to both outputs of the convolutions.

    Raises:
        ValueError: if a setting has no meaning.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_layers: int = 2,
        num_convs: int = 4,
        norm: str = "",
        use_vspm: bool = True,
        use_aspm: bool = True,
        pos_enc: bool = True,
        attn_stride: int = 4,
        feat_pos: bool = False,
        share_layers: bool = False,
        ffn_dim: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        _check("NUM_LAYERS", num_layers >= 1, "at least 1", num_layers)
        _check("NUM_CONVS", num_convs >= 2 and num_convs % 2 == 0, "an even number", num_convs)
        _check("NORM", norm in ("", "GN"), '"" or "GN"', norm)
        width_fits = norm != "GN" or dim % _NORM_GROUPS == 0
        _check("NORM", width_fits, f'"" unless the width is a multiple of {_NORM_GROUPS}', norm)
        _check("ATTN_STRIDE", attn_stride in (4, 8, 16), "4, 8 or 16", attn_stride)
        self.num_layers, self.use_vspm, self.use_aspm = num_layers, use_vspm, use_aspm
        self.pos_enc, self.pool, self.feat_pos = pos_enc, attn_stride // 4, feat_pos
        self.residual = residual
        self.adapter = nn.ModuleList(Conv3x3(dim, dim) for _ in range(num_convs))
        for conv in self.adapter:
            weight_init.c2_msra_fill(conv)
        self.adapter_norm = nn.ModuleList(
            nn.GroupNorm(_NORM_GROUPS, dim) for _ in range(num_convs - 1 if norm else 0)
        )
        self.mask_embed = MLP(dim, dim, dim, 3)
        self.layers = nn.ModuleList(
            SAMHLayer(dim, num_heads, ffn_dim) for _ in range(1 if share_layers else num_layers)
        )

    def forward(
        self,
        prototypes: Tensor,
        features: Tensor,
        visible_logits: Tensor,
        query_pos: Tensor,
        valid: Tensor | None = None,
    ) -> SAMHOutput:
        """Predict the amodal masks of one clip (Algorithm 1).

        Args:
            prototypes (Tensor[B, N, C]): updated global prototypes.
            features (Tensor[B, T, C, h, w]): mask features F of the clip.
            visible_logits (Tensor[B, N, T, h, w]): visible masks M of the clip.
            query_pos (Tensor[1, N, C]): position code of the prototypes.
            valid (Tensor[B, h, w]): optional bool map, False on padding, which is then no key.

        Returns:
            SAMHOutput: see there.
        """
        if self.feat_pos:
            frames, channels, h, w = features.shape[1:]
            features = features + sine_position_3d(frames, h, w, channels, features)
        attend, embed = self.extract_features(features)
        keys, values, valid_keys = self._keys(attend, valid)
        pos = query_pos if self.pos_enc else None
        seen = visible_logits.detach()
        p, amodal, priors = prototypes, [], []
        for i in range(self.num_layers):
            amodal.append(dot_product_masks(self.mask_embed, p, embed))
            prior = self.prior_mask(seen, amodal[-1].detach())
            priors.append(prior)
            allow = self._allow(prior, valid_keys)
            p = self.layers[i % len(self.layers)](p, pos, keys, values, allow)
        amodal.append(dot_product_masks(self.mask_embed, p, embed))
        return SAMHOutput(p, amodal, priors)

    def extract_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Extract attention features O and mask features E, the second from the first (Sec. 3.5).

        Args:
            features (Tensor[B, T, C, h, w]): mask features F of the clip.

        Returns:
            O and E, both Tensor[B, T, C, h, w].
        """
        x = features.flatten(0, 1)
        last = len(self.adapter) - 1
        outputs = []
        for i, conv in enumerate(self.adapter):
            x = conv(x)
            if i < last:
                x = F.relu(self.adapter_norm[i](x) if self.adapter_norm else x)
            if i in (last // 2, last):
                output = x.unflatten(0, features.shape[:2])
                outputs.append(features + output if self.residual else output)
        return outputs[0], outputs[1]

    def prior_mask(self, visible_logits: Tensor, amodal_logits: Tensor) -> Tensor:
        """Unite a slot's masks over the clip: VSPM, ASPM, both, or everything if neither is in use.

        Args:
            visible_logits (Tensor[B, N, T, h, w]): visible masks.
            amodal_logits (Tensor[B, N, T, h, w]): amodal masks before the layer.

        Returns:
            Tensor[B, N, h, w]: bool.
        """
        parts = [
            self.united_mask(logits)
            for logits, used in ((visible_logits, self.use_vspm), (amodal_logits, self.use_aspm))
            if used
        ]
        if not parts:
            return torch.ones_like(self._at_key_size(visible_logits)[:, :, 0], dtype=torch.bool)
        return torch.stack(parts).any(dim=0)

    def united_mask(self, logits: Tensor) -> Tensor:
        """Unite masks over the frames of the clip.

        Args:
            logits (Tensor[B, N, T, h, w]): masks at stride 4.

        Returns:
            Tensor[B, N, h, w]: bool, at the stride of the keys.
        """
        return self._at_key_size(logits).gt(0).any(dim=2)

    def _at_key_size(self, logits: Tensor) -> Tensor:
        if self.pool == 1:
            return logits
        size = [-(-n // self.pool) for n in logits.shape[-2:]]
        flat = logits.flatten(0, 1).float()
        return F.interpolate(flat, size, mode="bilinear", align_corners=False).unflatten(
            0, logits.shape[:2]
        )

    def _keys(self, attend: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flatten to keys and values [B, T*h*w, C], frame slowest, and valid [B, h*w]."""
        frames = attend.shape[1]
        if self.pool > 1:
            flat = F.avg_pool2d(attend.flatten(0, 1), self.pool, ceil_mode=True)
            attend = flat.unflatten(0, attend.shape[:2])
            if valid is not None:
                valid = F.max_pool2d(valid.float(), self.pool, ceil_mode=True) > 0
        channels, h, w = attend.shape[2:]
        values = attend.flatten(3).transpose(2, 3).flatten(1, 2)
        keys = values
        if self.pos_enc:
            code = sine_position_3d(frames, h, w, channels, attend)
            keys = values + code.flatten(2).transpose(1, 2).flatten(0, 1)
        return keys, values, None if valid is None else valid.flatten(1)

    def _allow(self, prior: Tensor, valid: Tensor | None) -> Tensor | None:
        """Return the keys of every frame that a slot may attend to, [B, N, h*w]; None for all."""
        if valid is None:
            return prior.flatten(2) if self.use_vspm or self.use_aspm else None
        inside = prior.flatten(2) & valid[:, None]
        nowhere = ~inside.any(dim=-1, keepdim=True)
        return inside | (nowhere & valid[:, None])


def _check(key: str, condition: bool, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"SAMH: expected MODEL.A2VIS.SAMH.{key} to be {expected}, got {value!r}")
