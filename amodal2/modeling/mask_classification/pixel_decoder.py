"""Multi-scale deformable pixel decoder of Mask2Former (Sec. 3.2.2), officially named.

Levels are ordered from coarse to fine (strides 32, 16, 8) wherever several appear together.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn

from amodal2.layers import Conv3x3, sine_position_2d
from amodal2.ops import ms_deform_attn


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention with its projections (Deformable DETR, Eq. 3).

    Args:
        dim: channels C.
        num_heads: attention heads M.
        num_levels: feature levels L.
        num_points: sampling points P per head and level.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.attention_weights = nn.Linear(dim, samples)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with points on rays around the reference point and uniform weights."""
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        ray = torch.stack((angle.cos(), angle.sin()), dim=-1)
        ray = ray / ray.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = ray[:, None, None, :] * steps[None, None, :, None]
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for zero in (self.sampling_offsets.weight, *self.attention_weights.parameters()):
            nn.init.zeros_(zero)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, reference: Tensor, source: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Sample the levels around each query's reference point.

        Args:
            query (Tensor[B, S, C]): features with position code.
            reference (Tensor[S, 2]): reference points (x, y) in [0, 1].
            source (Tensor[B, S, C]): features that are sampled, all levels one after the other.
            shapes: (height, width) of each level.

        Returns:
            Tensor[B, S, C]: attended features.
        """
        batch, length, _ = query.shape
        heads, levels, points = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(source).unflatten(-1, (heads, -1))
        offsets = self.sampling_offsets(query).view(batch, length, heads, levels, points, 2)
        weights = self.attention_weights(query).view(batch, length, heads, levels * points)
        weights = weights.float().softmax(dim=-1).view(batch, length, heads, levels, points)
        sizes = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float32, device=query.device)
        locations = reference[None, :, None, None, None] + offsets.float() / sizes[:, None]
        return self.output_proj(ms_deform_attn(value, shapes, locations, weights))


class _EncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, both post-norm."""

    def __init__(self, dim: int, hidden_dim: int, num_heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(dim, num_heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self, x: Tensor, pos: Tensor, reference: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        x = self.norm1(x + self.self_attn(x + pos, reference, x, shapes))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class _Encoder(nn.Module):
    def __init__(self, layers: list[_EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _EncoderTransformer(nn.Module):
    """The deformable encoder and its level embedding, under the official prefix ``transformer``."""

    def __init__(
        self, dim: int, hidden_dim: int, num_heads: int, depth: int, levels: int, points: int
    ) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(levels, dim))
        self.encoder = _Encoder(
            [_EncoderLayer(dim, hidden_dim, num_heads, levels, points) for _ in range(depth)]
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        shapes = [tuple(x.shape[-2:]) for x in levels]
        channels = levels[0].shape[1]
        pos = [
            sine_position_2d(h, w, channels, x).flatten(1).t() + embed
            for x, (h, w), embed in zip(levels, shapes, self.level_embed, strict=True)
        ]
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        reference = torch.cat([_pixel_centres(h, w, tokens) for h, w in shapes])
        code = torch.cat(pos)[None]
        for layer in self.encoder.layers:
            tokens = layer(tokens, code, reference, shapes)
        parts = tokens.split([h * w for h, w in shapes], dim=1)
        return [
            x.transpose(1, 2).unflatten(-1, shape) for x, shape in zip(parts, shapes, strict=True)
        ]


def _pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (x, y) in [0, 1], row by row: [height * width, 2], float32."""
    ys = (torch.arange(height, dtype=torch.float32, device=like.device) + 0.5) / height
    xs = (torch.arange(width, dtype=torch.float32, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1).flatten(0, 1)


class MSDeformAttnPixelDecoder(nn.Module):
    """Turn backbone features into per-pixel mask features and three levels for the mask decoder.

    Args:
        input_shape: backbone outputs by name, with channels and stride.
        conv_dim: channels of the decoder, a multiple of 32.
        mask_dim: channels of the mask features.
        norm: normalisation of the FPN convolutions, "GN" or "".
        num_heads: heads of the deformable encoder.
        enc_layers: layers of the deformable encoder.
        enc_hidden_dim: hidden width of its feed-forward layers.
        enc_points: sampling points per head and level.
        amp: let autocast reach this module; otherwise it computes in float32.

    Raises:
        ValueError: if ``conv_dim`` is not a multiple of 32 or fewer than three features come in.
    """

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        conv_dim: int,
        mask_dim: int,
        norm: str,
        num_heads: int,
        enc_layers: int,
        enc_hidden_dim: int,
        enc_points: int,
        amp: bool = False,
    ) -> None:
        super().__init__()
        if conv_dim % 32:
            raise ValueError(
                "MSDeformAttnPixelDecoder: expected CONVS_DIM to be a multiple of 32, got "
                f"{conv_dim}"
            )
        features = sorted(input_shape.items(), key=lambda item: item[1].stride)
        if len(features) < 3:
            raise ValueError(
                "MSDeformAttnPixelDecoder: expected at least three backbone features, got "
                f"{[name for name, _ in features]}"
            )
        self.amp = amp
        self.encoder_features = [name for name, _ in reversed(features[-3:])]
        self.fpn_features = [name for name, _ in features[:-3]]
        self.input_proj = nn.ModuleList(
            _projection(input_shape[name].channels, conv_dim) for name in self.encoder_features
        )
        self.transformer = _EncoderTransformer(
            conv_dim, enc_hidden_dim, num_heads, enc_layers, 3, enc_points
        )
        self.mask_features = Conv2d(conv_dim, mask_dim, 1)
        weight_init.c2_xavier_fill(self.mask_features)
        bias = norm == ""
        for i, name in enumerate(self.fpn_features, start=1):
            lateral = Conv2d(
                input_shape[name].channels, conv_dim, 1, bias=bias, norm=get_norm(norm, conv_dim)
            )
            output = Conv3x3(
                conv_dim, conv_dim, bias=bias, norm=get_norm(norm, conv_dim), activation=F.relu
            )
            for conv in (lateral, output):
                weight_init.c2_xavier_fill(conv)
            self.add_module(f"adapter_{i}", lateral)
            self.add_module(f"layer_{i}", output)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode backbone features.

        Args:
            features (dict[str, Tensor[B, c, h, w]]): backbone outputs.

        Returns:
            mask features (Tensor[B, mask_dim, H/4, W/4]); the map they are made from (P4,
            Tensor[B, conv_dim, H/4, W/4]); the encoder outputs at strides 32, 16, 8
            (list of Tensor[B, conv_dim, h, w]).
        """
        if self.amp:
            return self._decode(features)
        device_type = next(iter(features.values())).device.type
        with torch.autocast(device_type, enabled=False):
            return self._decode({name: x.float() for name, x in features.items()})

    def _decode(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        levels = [
            proj(features[name])
            for proj, name in zip(self.input_proj, self.encoder_features, strict=True)
        ]
        levels = self.transformer(levels)
        fine = levels[-1]
        for i in range(len(self.fpn_features), 0, -1):
            lateral = getattr(self, f"adapter_{i}")(features[self.fpn_features[i - 1]])
            up = F.interpolate(fine, lateral.shape[-2:], mode="bilinear", align_corners=False)
            fine = getattr(self, f"layer_{i}")(lateral + up.to(lateral.dtype))
        return self.mask_features(fine), fine, levels


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    weight, bias = conv.parameters()
    nn.init.xavier_uniform_(weight)
    nn.init.zeros_(bias)
    return nn.Sequential(conv, nn.GroupNorm(32, out_channels))
