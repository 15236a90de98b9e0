"""VITA's video head: frame queries of a clip are associated into clip queries (VITA Sec. 3.2-3.3).

Shapes: L decoder layers that act as extra batch, B clips, T frames, fQ frame queries, cQ clip
    queries, C channels.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from fvcore.nn import weight_init
from torch import Tensor, nn

from amodal2.layers import MLP, CrossAttentionLayer, FFNLayer, SelfAttentionLayer

_GROUP_TOKENS = 16384  # tokens in windows that pass an encoder layer at once in tests


@dataclass
class ClipQueries:
    """Clip queries and, where the heads are built and asked, their predictions.

    Attributes:
        queries (Tensor[D, L, B, cQ, C]): normalised states, one per decoder layer in training, else
            the last.
        class_logits (Tensor[D, L, B, cQ, K+1] or None): class predictions.
        mask_embed (Tensor[D, L, B, cQ, C] or None): mask embeddings.
        frame_sim (Tensor[L, B, T, fQ, C] or None): similarity embeddings of the frame queries.
        clip_sim (Tensor[D, L, B, cQ, C] or None): similarity embeddings of the clip queries.
    """

    queries: Tensor
    class_logits: Tensor | None = None
    mask_embed: Tensor | None = None
    frame_sim: Tensor | None = None
    clip_sim: Tensor | None = None


class ObjectAssociation(nn.Module):
    """Object encoder over the frame queries and object decoder with clip queries.

    Args:
        in_dim: width of the frame queries.
        mask_feature_dim: channels of the map P4 from which the clip's mask features are made.
        hidden_dim: channels C.
        num_classes: object classes K.
        num_frame_queries: fQ.
        num_queries: cQ.
        num_heads: attention heads.
        hidden_ffn: hidden width of the feed-forward layers.
        enc_layers: object encoder layers.
        dec_layers: object decoder layers.
        window_size: frames per attention window of the encoder; 0 attends over all frames.
        window_shift: when odd encoder layers use shifted windows: "test" (as the official code
            does), "always" or "never".
        enforce_input_proj: project the frame queries even if the widths agree.
        heads: build class, mask and similarity heads (VITA); A2VIS brings its own.

    Raises:
        ValueError: if ``window_shift`` is unknown.
    """

    def __init__(
        self,
        *,
        in_dim: int,
        mask_feature_dim: int,
        hidden_dim: int,
        num_classes: int,
        num_frame_queries: int,
        num_queries: int,
        num_heads: int,
        hidden_ffn: int,
        enc_layers: int,
        dec_layers: int,
        window_size: int = 0,
        window_shift: str = "test",
        enforce_input_proj: bool = True,
        heads: bool = True,
    ) -> None:
        super().__init__()
        if window_shift not in ("test", "always", "never"):
            raise ValueError(
                "ObjectAssociation: expected ENC_WINDOW_SHIFT test, always or never, got "
                f"{window_shift!r}"
            )
        self.window_size, self.window_shift = window_size, window_shift
        self.enc_self_attn = nn.ModuleList(
            SelfAttentionLayer(hidden_dim, num_heads) for _ in range(enc_layers)
        )
        self.enc_ffn = nn.ModuleList(FFNLayer(hidden_dim, hidden_ffn) for _ in range(enc_layers))
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(hidden_dim, num_heads) for _ in range(dec_layers)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(hidden_dim, num_heads) for _ in range(dec_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FFNLayer(hidden_dim, hidden_ffn) for _ in range(dec_layers)
        )
        self.vita_mask_features = nn.Conv2d(mask_feature_dim, hidden_dim, 1)
        weight_init.c2_xavier_fill(self.vita_mask_features)
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.fq_pos = nn.Embedding(num_frame_queries, hidden_dim)
        project = enforce_input_proj or in_dim != hidden_dim
        self.input_proj_dec = nn.Linear(in_dim, hidden_dim) if project else nn.Identity()
        self.has_heads = heads
        if heads:
            self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
            self.mask_embed = MLP(hidden_dim, hidden_dim, hidden_dim, 3)
            self.sim_embed_frame = nn.Linear(hidden_dim, hidden_dim)
            self.sim_embed_clip = nn.Linear(hidden_dim, hidden_dim)

    def mask_features(self, fine: Tensor) -> Tensor:
        """Project the pixel decoder's finest map to the clip's mask features.

        Args:
            fine (Tensor[X, c, h, w]): P4 at stride 4.

        Returns:
            Tensor[X, C, h, w]: mask features F.
        """
        return self.vita_mask_features(fine)

    def forward(
        self, frame_queries: Tensor, *, predict: bool = True, similarity: bool = True
    ) -> ClipQueries:
        """Associate the objects of every clip.

        Args:
            frame_queries (Tensor[L, B, T, fQ, in_dim]): normalised frame queries.
            predict: False leaves out classes and mask embeddings, for users of the queries alone.
            similarity: False leaves out the similarity embeddings, which VITA's similarity loss
                alone reads.

        Returns:
            ClipQueries: see there; D is the number of decoder layers in training and 1 otherwise.
        """
        start = self.query_feat.weight.expand(frame_queries.shape[:2].numel(), -1, -1)
        return self.associate(frame_queries, start, predict=predict, similarity=similarity)[0]

    def associate(
        self,
        frame_queries: Tensor,
        start: Tensor,
        *,
        predict: bool = True,
        similarity: bool = True,
    ) -> tuple[ClipQueries, Tensor]:
        """Associate the objects of every clip, with clip queries that start from given states.

        Args:
            frame_queries (Tensor[L, B, T, fQ, in_dim]): normalised frame queries.
            start (Tensor[L*B, cQ, C]): first states of the clip queries.
            predict: see :meth:`forward`.
            similarity: see :meth:`forward`.

        Returns:
            what :meth:`forward` returns, and the last state (Tensor[L*B, cQ, C]) before its norm.
        """
        layers, batch, frames, num, _ = frame_queries.shape
        tokens = self.encode(self.input_proj_dec(frame_queries).flatten(0, 1))
        memory = tokens.flatten(1, 2)  # [L*B, T*fQ, C]
        key_pos = self.fq_pos.weight.repeat(frames, 1)[None]
        states = self.decode(start, memory, key_pos)
        if not self.training:
            states = states[-1:]
        queries = torch.stack([self.decoder_norm(x) for x in states]).unflatten(1, (layers, batch))
        result = ClipQueries(queries)
        if self.has_heads and predict:
            result.class_logits = self.class_embed(queries)
            result.mask_embed = self.mask_embed(queries)
        if self.has_heads and similarity:
            frame_sim = self.sim_embed_frame(tokens)
            result.frame_sim = frame_sim.view(layers, batch, frames, num, -1)
            result.clip_sim = self.sim_embed_clip(queries)
        return result, states[-1]

    def decode(self, state: Tensor, memory: Tensor, key_pos: Tensor) -> list[Tensor]:
        """Run the object decoder.

        Args:
            state (Tensor[X, cQ, C]): first state of the clip queries.
            memory (Tensor[X, T*fQ, C]): encoded frame queries.
            key_pos (Tensor[1, T*fQ, C]): their position code.

        Returns:
            list of Tensor[X, cQ, C]: states after each layer, before normalisation.
        """
        query_pos = self.query_embed.weight[None]
        states = []
        steps = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for cross, attend, ffn in steps:
            state = cross(state, memory, query_pos=query_pos, key_pos=key_pos)
            state = ffn(attend(state, query_pos))
            states.append(state)
        return states

    def encode(self, tokens: Tensor) -> Tensor:
        """Run the object encoder, in windows if configured.

        Odd layers use windows shifted by half a window, by default outside training alone; tokens
        of different ends of the video that meet in the first shifted window do not see each other.
        Without gradients the windows pass a layer in groups, so that its memory does not grow with
        the video.

        Args:
            tokens (Tensor[X, T, fQ, C]): projected frame queries.

        Returns:
            Tensor[X, T, fQ, C]: encoded tokens.
        """
        if self.window_size == 0:
            flat = tokens.flatten(1, 2)
            for attend, ffn in zip(self.enc_self_attn, self.enc_ffn, strict=True):
                flat = ffn(attend(flat))
            return flat.view_as(tokens)
        frames, num = tokens.shape[1:3]
        window = self.window_size
        padded = -(-frames // window) * window
        x = nn.functional.pad(tokens, (0, 0, 0, 0, 0, padded - frames))
        shifted = self.window_shift == "always" or (
            self.window_shift == "test" and not self.training
        )
        group = padded if torch.is_grad_enabled() else max(1, _GROUP_TOKENS // (window * num))
        for i, (attend, ffn) in enumerate(zip(self.enc_self_attn, self.enc_ffn, strict=True)):
            shift = math.ceil(window / 2) if i % 2 and shifted else 0
            allow = _window_mask(frames, padded, window, shift, tokens.device)
            rolled = x.roll(shift, dims=1).unflatten(1, (-1, window))  # [X, windows, W, fQ, C]
            parts = []
            for part, seen in zip(rolled.split(group, 1), allow.split(group), strict=True):
                seen = seen.repeat_interleave(num, 1).repeat_interleave(num, 2)
                flat = part.flatten(2, 3).flatten(0, 1)
                flat = ffn(attend(flat, allow=seen.repeat(x.shape[0], 1, 1)))
                parts.append(flat.view_as(part))
            x = torch.cat(parts, dim=1).flatten(1, 2).roll(-shift, dims=1)
        return x[:, :frames]


def _window_mask(frames: int, padded: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Which frames of a window see each other: bool [windows, W, W]."""
    position = torch.arange(padded, device=device)
    frame = (position - shift) % padded
    wrapped = (position < shift).view(-1, window)
    real = (frame < frames).view(-1, window)
    return (wrapped[:, :, None] == wrapped[:, None, :]) & real[:, None, :]


def association_arguments(cfg: CfgNode, *, heads: bool) -> dict[str, Any]:
    """Translate ``MODEL.VITA`` into arguments of :class:`ObjectAssociation`.

    Args:
        cfg: configuration.
        heads: build class, mask and similarity heads.

    Returns:
        dict: keyword arguments.
    """
    vita, former = cfg.MODEL.VITA, cfg.MODEL.MASK_FORMER
    return {
        "in_dim": former.HIDDEN_DIM,
        "mask_feature_dim": cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
        "hidden_dim": vita.HIDDEN_DIM,
        "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        "num_frame_queries": former.NUM_OBJECT_QUERIES,
        "num_queries": vita.NUM_OBJECT_QUERIES,
        "num_heads": vita.NHEADS,
        "hidden_ffn": vita.DIM_FEEDFORWARD,
        "enc_layers": vita.ENC_LAYERS,
        "dec_layers": vita.DEC_LAYERS,
        "window_size": vita.ENC_WINDOW_SIZE,
        "window_shift": vita.ENC_WINDOW_SHIFT,
        "enforce_input_proj": vita.ENFORCE_INPUT_PROJ,
        "heads": heads,
    }
