"""Masked-attention decoder of Mask2Former (Sec. 3.2), with VITA's frame queries."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import Tensor, nn

from amodal2.layers import MLP, CrossAttentionLayer, FFNLayer, SelfAttentionLayer, sine_position_2d
from amodal2.modeling.mask_classification.slot_masks import BatchMasks


@dataclass
class MaskPrediction:
    """Class and mask logits of one set of queries.

    Attributes:
        class_logits (Tensor[B, N, K+1]): the last class is "no object".
        mask_logits (Tensor[B, N, h, w] of images, Tensor[B, N, T, h, w] of clips): at stride 4.
    """

    class_logits: Tensor
    mask_logits: Tensor


@dataclass
class ProductPrediction:
    """Class logits of one set of clip queries, and masks that are not computed yet.

    Attributes:
        class_logits (Tensor[B, N, K+1]): the last class is "no object".
        mask_logits (BatchMasks): of clips, at stride 4.
    """

    class_logits: Tensor
    mask_logits: BatchMasks


@dataclass
class DecoderKeys:
    """What the mask decoder reads, for each level.

    Attributes:
        memories (list of Tensor[B, S, C]): values; keys without their position code.
        codes (list of Tensor[1, S, C]): position codes of the keys.
        small_features (list of Tensor[B, D, S]): mask features at the level's size.
    """

    memories: list[Tensor]
    codes: list[Tensor]
    small_features: list[Tensor]


@dataclass
class DecoderOutput:
    """What the mask decoder returns.

    Attributes:
        predictions: one per step that was asked for, the learnable queries' first.
        queries (Tensor[L, B, N, C]): normalised states after every layer.
    """

    predictions: list[MaskPrediction]
    queries: Tensor


class MultiScaleMaskedTransformerDecoder(nn.Module):
    """Queries that read one feature level after the other, each inside its own predicted mask.

    Args:
        in_channels: channels of the feature levels.
        num_classes: object classes K.
        hidden_dim: width of the queries, C.
        num_queries: number of queries N.
        num_heads: attention heads.
        hidden_ffn: hidden width of the feed-forward layers.
        num_layers: decoder layers (one fewer than the config's DEC_LAYERS).
        mask_dim: channels of the mask features.
        enforce_input_project: project the levels even if the widths agree.
        dropout: dropout in [0, 1).
    """

    num_levels = 3

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        hidden_dim: int,
        num_queries: int,
        num_heads: int,
        hidden_ffn: int,
        num_layers: int,
        mask_dim: int,
        enforce_input_project: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = range(num_layers)
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(hidden_dim, num_heads, dropout) for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(hidden_dim, num_heads, dropout) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FFNLayer(hidden_dim, hidden_ffn, dropout) for _ in layers
        )
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(self.num_levels, hidden_dim)
        self.input_proj = nn.ModuleList()
        for _ in range(self.num_levels):
            if in_channels == hidden_dim and not enforce_input_project:
                self.input_proj.append(nn.Sequential())
                continue
            conv = nn.Conv2d(in_channels, hidden_dim, 1)
            weight_init.c2_xavier_fill(conv)
            self.input_proj.append(conv)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    def forward(
        self, levels: list[Tensor], mask_features: Tensor, *, predict: bool = True, last: int = 1
    ) -> DecoderOutput:
        """Decode one batch of images.

        Args:
            levels (list of Tensor[B, c, h, w]): features at strides 32, 16, 8.
            mask_features (Tensor[B, mask_dim, h, w]): per-pixel features at stride 4.
            predict: False leaves out all class and mask predictions, for users of the queries
                alone.
            last: outside training, predictions of this many steps at the end.

        Returns:
            DecoderOutput: predictions of every step in training, of the last ones otherwise.
        """
        keys = self.prepare(levels, mask_features)
        return self.decode(keys, mask_features if predict else None, last=last)

    def decode(
        self, keys: DecoderKeys, mask_features: Tensor | None, *, last: int = 1
    ) -> DecoderOutput:
        """Let the queries read the keys.

        Args:
            keys: from :meth:`prepare`.
            mask_features (Tensor[B, mask_dim, h, w] or None): per-pixel features at stride 4; None
                leaves out the predictions.
            last: outside training, predictions of this many steps at the end.

        Returns:
            DecoderOutput: see :meth:`forward`.
        """
        batch = keys.memories[0].shape[0]
        state = self.query_feat.weight[None].expand(batch, -1, -1)
        query_pos = self.query_embed.weight[None].expand(batch, -1, -1)
        normed = self.decoder_norm(state)
        layers = len(self.transformer_cross_attention_layers)
        first = 0 if self.training else max(0, layers + 1 - last)  # step of the first prediction
        predictions = []
        if mask_features is not None and first == 0:
            predictions.append(self.predict(normed, mask_features))
        queries = []
        steps = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for i, (cross, attend, ffn) in enumerate(steps):
            level = i % self.num_levels
            allow = self._attention_mask(normed, keys.small_features[level])
            state = cross(
                state,
                keys.memories[level],
                query_pos=query_pos,
                key_pos=keys.codes[level],
                allow=allow,
            )
            state = ffn(attend(state, query_pos))
            normed = self.decoder_norm(state)
            queries.append(normed)
            if mask_features is not None and i + 1 >= first:
                predictions.append(self.predict(normed, mask_features))
        return DecoderOutput(predictions, torch.stack(queries))

    def prepare(self, levels: list[Tensor], mask_features: Tensor) -> DecoderKeys:
        """Make keys of the feature levels.

        Args:
            levels (list of Tensor[B, c, h, w]): features at strides 32, 16, 8.
            mask_features (Tensor[B, mask_dim, h, w]): per-pixel features at stride 4.

        Returns:
            DecoderKeys: see there.
        """
        memories, codes, small_features = [], [], []
        for x, proj, embed in zip(levels, self.input_proj, self.level_embed.weight, strict=True):
            memory = proj(x).flatten(2).transpose(1, 2) + embed
            h, w = x.shape[-2:]
            code = sine_position_2d(h, w, memory.shape[-1], memory).flatten(1).t()
            memories.append(memory)
            codes.append(code.to(memory.dtype)[None])
            small = F.interpolate(
                mask_features.detach(), (h, w), mode="bilinear", align_corners=False
            )
            small_features.append(small.flatten(2))
        return DecoderKeys(memories, codes, small_features)

    @torch.no_grad()
    def _attention_mask(self, normed: Tensor, small_features: Tensor) -> Tensor:
        """Foreground of the current masks at a level's size, [B, N, h*w].

        Resizing the features before the product equals resizing the logits, as both are linear, and
        costs less.
        """
        with torch.autocast(normed.device.type, enabled=False):
            logits = self.mask_embed(normed.float()) @ small_features.float()
        return logits >= 0

    def predict(self, normed: Tensor, mask_features: Tensor) -> MaskPrediction:
        """Classify queries and draw their masks.

        Args:
            normed (Tensor[B, N, C]): normalised states, as in :attr:`DecoderOutput.queries`.
            mask_features (Tensor[B, mask_dim, h, w]): per-pixel features at stride 4.

        Returns:
            MaskPrediction: of these queries.
        """
        embedding = self.mask_embed(normed)
        mask_logits = torch.einsum("bnc,bchw->bnhw", embedding, mask_features)
        return MaskPrediction(self.class_embed(normed), mask_logits)
