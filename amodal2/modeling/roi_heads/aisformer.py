"""AISFormer: a transformer over the cells of a region whose queries are the kinds of masks.

Tran et al., "AISFormer: Amodal Instance Segmentation with Transformer", BMVC 2022. Shapes: N
regions, C channels (EMB_DIM), S side of the pooled features, M = 2 S, P = M M cells.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn

from amodal2.layers import MLP, MultiheadAttention
from amodal2.modeling.roi_heads.amodal_mask_head import AmodalMaskHead
from amodal2.modeling.roi_heads.mask_kinds import AMODAL, INVISIBLE, OCCLUDER, VISIBLE

_QUERIES = (VISIBLE, OCCLUDER, AMODAL, INVISIBLE)
_TABLE_ROWS = 50
_DROPOUT = 0.1


class _TableCode(nn.Module):
    """Learned position code: columns in the first half of the channels, rows in the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(_TABLE_ROWS, channels // 2)
        self.col_embed = nn.Embedding(_TABLE_ROWS, channels // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, side: int) -> Tensor:
        """Return the codes of a square grid, [P, C], row by row."""
        rows = self.row_embed.weight[:side, None].expand(-1, side, -1)
        columns = self.col_embed.weight[None, :side].expand(side, -1, -1)
        return torch.cat((columns, rows), dim=2).flatten(0, 1)


class _EncoderLayer(nn.Module):
    """Self-attention of the cells and a feed-forward network, normalised after each."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dim, heads, _DROPOUT)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """Map cells [N, P, C] with their codes to cells."""
        q = x + pos
        x = self.norm1(x + self.dropout(self.self_attn(q, q, x)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class _DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the cells and a feed-forward network."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dim, heads, _DROPOUT)
        self.multihead_attn = MultiheadAttention(dim, heads, _DROPOUT)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, query_pos: Tensor, memory: Tensor, pos: Tensor) -> Tensor:
        """Map queries [N, Q, C], given cells [N, P, C] and both codes, to queries."""
        q = x + query_pos
        x = self.norm1(x + self.dropout(self.self_attn(q, q, x)))
        read = self.multihead_attn(x + query_pos, memory + pos, memory)
        x = self.norm2(x + self.dropout(read))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class _Layers(nn.Module):
    """A list of layers under the official name ``layers``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _AISFormerBase(AmodalMaskHead):
    """Encoder, decoder and mask embeddings, without the convolutions around them."""

    weights: ClassVar = {VISIBLE: 1.0, OCCLUDER: 1.0, AMODAL: 1.0, INVISIBLE: 1.0}
    pixel_embed: nn.Module
    """Of the subclass: features [N, C, M, M] to pixel embeddings of the same shape."""

    def __init__(
        self,
        *,
        emb_dim: int,
        num_layers: int,
        num_heads: int,
        dim_feedforward: int,
        invisible_embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mask_embed = MLP(emb_dim, emb_dim, emb_dim, 3)
        self.subtract_model = MLP(2 * emb_dim, emb_dim, emb_dim, 2) if invisible_embed else None
        self.norm_rois = nn.LayerNorm(emb_dim)
        self.positional_encoding = _TableCode(emb_dim)
        self.query_embed = nn.Embedding(len(_QUERIES), emb_dim)
        sizes = (emb_dim, num_heads, dim_feedforward)
        self.transformer_encoder = _Layers(*(_EncoderLayer(*sizes) for _ in range(num_layers)))
        self.transformer_decoder = _Layers(*(_DecoderLayer(*sizes) for _ in range(num_layers)))
        parts = (self.transformer_encoder, self.transformer_decoder, self.mask_embed)
        for part in (*parts, self.subtract_model or nn.Identity()):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Translate config keys into the arguments of ``__init__``."""
        node = cfg.MODEL.AISFORMER
        side = 2 * cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        if side > _TABLE_ROWS:
            raise ValueError(
                f"{cls.__name__}: expected MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION of at most "
                f"{_TABLE_ROWS // 2}, got {side // 2}"
            )
        return {
            **super().from_config(cfg, input_shape),
            "in_channels": input_shape.channels,
            "emb_dim": node.EMB_DIM,
            "num_layers": node.N_LAYERS,
            "num_heads": node.N_HEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "invisible_embed": node.INVISIBLE_EMBED,
        }

    def upsample(self, x: Tensor) -> Tensor:
        """Map pooled features [N, C', S, S] to features [N, C, M, M]."""
        raise NotImplementedError(f"{type(self).__name__}.upsample: expected an implementation")

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Predict every kind, each [N, 1, M, M]; see :meth:`AmodalMaskHead.layers`."""
        features = self.upsample(x)
        side = features.shape[-1]
        pos = self.positional_encoding(side)
        memory = features.flatten(2).transpose(1, 2)  # [N, P, C]
        for layer in self.transformer_encoder.layers:
            memory = layer(memory, pos)
        query_pos = self.query_embed.weight
        queries = query_pos.new_zeros((len(x), *query_pos.shape))
        for layer in self.transformer_decoder.layers:
            queries = layer(queries, query_pos, memory, pos)
        cells = self.norm_rois(memory + features.flatten(2).transpose(1, 2))
        cells = self.pixel_embed(cells.transpose(1, 2).unflatten(2, (side, side)))
        embeddings = dict(zip(_QUERIES, self.mask_embed(queries).unbind(1), strict=True))
        if self.subtract_model is not None:
            pair = torch.cat((embeddings[AMODAL], embeddings[VISIBLE]), dim=1)
            embeddings[INVISIBLE] = self.subtract_model(pair)
        stacked = torch.stack([embeddings[kind] for kind in self.weights], dim=1)
        logits = torch.einsum("nqc,nchw->nqhw", stacked, cells)
        return dict(zip(self.weights, logits.split(1, dim=1), strict=True))


@ROI_MASK_HEAD_REGISTRY.register()
class AISFormer(_AISFormerBase):
    """The head of the official code; its weights fit (class-agnostic masks).

    The invisible embedding is made of the amodal and the visible one (MODEL.AISFORMER
    INVISIBLE_EMBED, JUSTIFY_LOSS in the source); without it, of the fourth query.
    """

    weights: ClassVar = {VISIBLE: 1.0, OCCLUDER: 0.25, AMODAL: 1.0, INVISIBLE: 0.25}

    @configurable
    def __init__(self, *, in_channels: int, emb_dim: int, **kwargs: Any) -> None:
        """Build the layers.

        Args:
            in_channels: of the pooled features; the official weights have 256.
            emb_dim: C, even.
            **kwargs: ``num_layers`` of encoder and decoder, ``num_heads``, ``dim_feedforward``
                (hidden width), ``invisible_embed`` and those of :class:`AmodalMaskHead`.
        """
        super().__init__(emb_dim=emb_dim, **kwargs)
        self.mask_feat_learner_TR = Conv2d(
            in_channels, emb_dim, kernel_size=3, padding=1, activation=nn.ReLU()
        )
        self.deconv_for_TR = nn.Sequential(
            nn.ConvTranspose2d(emb_dim, emb_dim, kernel_size=2, stride=2), nn.ReLU()
        )
        self.pixel_embed = _small_conv(emb_dim)
        weight_init.c2_msra_fill(self.mask_feat_learner_TR)
        weight_init.c2_msra_fill(self.deconv_for_TR[0])

    def upsample(self, x: Tensor) -> Tensor:
        """Map pooled features [N, C', S, S] to features [N, C, M, M]."""
        return self.deconv_for_TR(self.mask_feat_learner_TR(x))


@ROI_MASK_HEAD_REGISTRY.register()
class AISFormerDeep(_AISFormerBase):
    """AIStron's variant with eight convolutions before the transformer and eight after it.

    All losses count alike. Its weights do not fit :class:`AISFormer` and the other way round.
    """

    @configurable
    def __init__(self, *, in_channels: int, emb_dim: int, **kwargs: Any) -> None:
        """Build the layers; see :class:`AISFormer`."""
        super().__init__(emb_dim=emb_dim, **kwargs)
        up = nn.ConvTranspose2d(emb_dim, emb_dim, kernel_size=2, stride=2)
        self.mask_feat_learner_TR = nn.Sequential(
            *_convs(in_channels, emb_dim), up, nn.ReLU(), _small_conv(emb_dim)
        )
        self.pixel_embed = nn.Sequential(*_convs(emb_dim, emb_dim), _small_conv(emb_dim))
        weight_init.c2_msra_fill(up)

    def upsample(self, x: Tensor) -> Tensor:
        """Map pooled features [N, C', S, S] to features [N, C, M, M]."""
        return self.mask_feat_learner_TR(x)


def _small_conv(channels: int) -> nn.Module:
    """Return a 1x1 convolution whose output is small at first."""
    conv = Conv2d(channels, channels, kernel_size=1)
    nn.init.normal_(conv.weight, std=0.001)
    nn.init.zeros_(conv.bias)
    return conv


def _convs(in_channels: int, channels: int) -> list[nn.Module]:
    """Return AIStron's eight 3x3 convolutions with ReLU."""
    layers: list[nn.Module] = []
    for k in range(8):
        conv = Conv2d(channels if k else in_channels, channels, 3, padding=1, activation=nn.ReLU())
        weight_init.c2_msra_fill(conv)
        layers.append(conv)
    return layers
