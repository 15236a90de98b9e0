"""Multi-head attention with boolean masks, and the post-norm layers of mask decoders.

Parameter names are those of ``nn.MultiheadAttention`` and of the official layers of Mask2Former and
VITA, so that their weights load. Shapes: B batch, Q queries, S keys, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal2.ops import HAS_C, masked_attention

_ABSORBED_COST = 2.0
"""Cost of a product with unprojected keys in units of a projection's (one CPU thread)."""


def allow_all_where_none(allow: Tensor) -> Tensor:
    """Let rows without any allowed key attend everywhere.

    Args:
        allow (Tensor[..., S]): bool, True where a query may attend.

    Returns:
        Tensor[..., S]: bool, with rows of only False turned to True.
    """
    return allow | ~allow.any(dim=-1, keepdim=True)


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over heads, batch first.

    Equals ``nn.MultiheadAttention`` without dropout, but takes one mask for all heads and never
    yields NaN: rows without an allowed key attend everywhere.

    Args:
        dim: channels C.
        num_heads: heads; must divide ``dim``.
        dropout: dropout of the attention weights, in [0, 1).
        softmax_axis: "local" normalises over the keys; "global" over the queries; "none" not at
            all.

    Raises:
        ValueError: if the heads do not divide the channels or the axis is unknown.
    """

    def __init__(
        self, dim: int, num_heads: int, dropout: float = 0.0, softmax_axis: str = "local"
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                "MultiheadAttention: expected channels divisible by the heads, got "
                f"{dim=} {num_heads=}"
            )
        if softmax_axis not in ("local", "global", "none"):
            raise ValueError(
                "MultiheadAttention: expected softmax_axis local, global or none, got "
                f"{softmax_axis!r}"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.softmax_axis = softmax_axis
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        allow: Tensor | None = None,
        null_key: Tensor | None = None,
    ) -> Tensor:
        """Read values by similarity of keys and queries.

        Args:
            query (Tensor[B, Q, C]): queries with their position code.
            key (Tensor[B, S, C]): keys with their position code.
            value (Tensor[B, S, C]): values.
            allow (Tensor[B, Q, P]): optional bool mask, True where a query may attend. S is a
                multiple of P; key s follows entry s mod P.
            null_key (Tensor[C]): optional projected key whose value is zero, open to every query.

        Returns:
            Tensor[B, Q, C]: the read-out.
        """
        local = self.softmax_axis == "local" and not (self.dropout and self.training)
        if allow is not None and null_key is None and local and self._absorbing_pays(key, allow):
            return self.out_proj(self._absorbed(query, key, value, allow).flatten(2))
        if allow is not None and null_key is not None:
            allow = allow_all_where_none(allow).repeat(1, 1, key.shape[1] // allow.shape[2])
            allow = F.pad(allow, (0, 1), value=True)
        q, k, v = self._project(query, key, value)
        if null_key is not None:
            extra = null_key.to(k.dtype).expand(k.shape[0], 1, -1)
            k, v = torch.cat((k, extra), dim=1), torch.cat((v, torch.zeros_like(extra)), dim=1)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)) for x in (q, k, v))  # [B, Q or S, M, D]
        if allow is not None and local:
            out = masked_attention(q, k, v, allow)
        else:
            out = self._stock_attention(q, k, v, allow)
        return self.out_proj(out.flatten(2))

    def weights(self, query: Tensor, key: Tensor, allow: Tensor | None = None) -> Tensor:
        """Return what :meth:`forward` weighs the values with, for pictures.

        Args:
            query (Tensor[B, Q, C]): queries with their position code.
            key (Tensor[B, S, C]): keys with their position code.
            allow (Tensor[B, Q, P]): optional bool mask, see :meth:`forward`.

        Returns:
            Tensor[B, Q, S]: normalised over the keys, mean over the heads.
        """
        q, k, _ = self._project(query, key, key)
        q, k = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if allow is not None:
            mask = allow_all_where_none(allow).repeat(1, 1, key.shape[1] // allow.shape[2])
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return scores.softmax(dim=-1).mean(dim=1)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        inputs = (query, key, value)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
        return q, k, v

    def _absorbing_pays(self, key: Tensor, allow: Tensor) -> bool:
        """Tell whether attending to unprojected keys is possible here and cheaper.

        Counted in products: projecting keys and values takes 2 C C each, projecting queries and
        read-out in their place 2 C C per query; an allowed key then takes 2 C M instead of 2 C.
        Only the CPU kernel profits, and gradients would take the same detour: for inference alone.
        """
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not HAS_C:
            return False
        if key.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not key.numel():
            return False
        if key.dtype not in (torch.float32, torch.float64):
            return False
        counts = allow.sum(dim=-1)
        period = allow.shape[2]
        share = counts.masked_fill_(counts == 0, period).sum().item() / (len(allow) * period)
        keys, channels = key.shape[1:]
        more = _ABSORBED_COST * share * (self.num_heads - 1) * keys
        return more < channels * (keys - allow.shape[1])

    def _absorbed(self, query: Tensor, key: Tensor, value: Tensor, allow: Tensor) -> Tensor:
        """Attend with the key and value projections applied to the queries and the read-out.

        As q (W k + b) = (W^T q) k + q b, where q b is the same for all keys and so without effect.
        """
        heads = (self.num_heads, -1)
        to_query, to_key, to_value = (w.unflatten(0, heads) for w in self.in_proj_weight.chunk(3))
        query_bias, _, value_bias = (b.view(heads) for b in self.in_proj_bias.chunk(3))
        q = torch.einsum("bqc,mdc->bqmd", query, to_query) + query_bias
        wide = torch.einsum("bqmd,mdc->bqmc", q, to_key)  # [B, Q, M, C]
        k, v = (x.unsqueeze(2).expand(-1, -1, self.num_heads, -1) for x in (key, value))
        read = masked_attention(wide, k, v, allow, scale=q.shape[-1] ** -0.5)
        return torch.einsum("bqmc,mdc->bqmd", read, to_value) + value_bias

    def _stock_attention(self, q: Tensor, k: Tensor, v: Tensor, allow: Tensor | None) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mask = None
        if allow is not None:
            repeats = k.shape[2] // allow.shape[2]
            mask = allow_all_where_none(allow).repeat(1, 1, repeats)[:, None]
        if self.softmax_axis == "local":
            dropout = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        else:
            out = self._unusual_axis(q, k, v, mask)
        return out.transpose(1, 2)

    def _unusual_axis(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if self.softmax_axis == "none":
            weights = scores if mask is None else scores.masked_fill(~mask, 0.0)
        else:
            scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
            weights = scores.softmax(dim=-2).nan_to_num(0.0)
        return weights @ v


class SelfAttentionLayer(nn.Module):
    """Self-attention, residual, LayerNorm.

    Args:
        dim: channels C.
        num_heads: attention heads.
        dropout: dropout of weights and residual, in [0, 1).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos: Tensor | None = None, allow: Tensor | None = None) -> Tensor:
        """Let the tokens exchange information.

        Args:
            x (Tensor[B, Q, C]): tokens.
            pos (Tensor[B, Q, C]): optional position code added to queries and keys.
            allow (Tensor[B, Q, Q]): optional bool mask.

        Returns:
            Tensor[B, Q, C]: tokens.
        """
        q = x if pos is None else x + pos
        return self.norm(x + self.dropout(self.self_attn(q, q, x, allow)))


class CrossAttentionLayer(nn.Module):
    """Cross-attention, residual, LayerNorm.

    Args:
        dim: channels C.
        num_heads: attention heads.
        dropout: dropout of weights and residual, in [0, 1).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.multihead_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        allow: Tensor | None = None,
    ) -> Tensor:
        """Let the queries read the memory.

        Args:
            x (Tensor[B, Q, C]): queries.
            memory (Tensor[B, S, C]): values; keys before their position code.
            query_pos (Tensor[B, Q, C]): optional position code of the queries.
            key_pos (Tensor[B, S, C]): optional position code of the keys.
            allow (Tensor[B, Q, P]): optional bool mask, see ``MultiheadAttention``.

        Returns:
            Tensor[B, Q, C]: queries.
        """
        q = x if query_pos is None else x + query_pos
        k = memory if key_pos is None else memory + key_pos
        return self.norm(x + self.dropout(self.multihead_attn(q, k, memory, allow)))


class FFNLayer(nn.Module):
    """Two linear layers with ReLU, residual, LayerNorm.

    Args:
        dim: channels C.
        hidden_dim: width between the layers.
        dropout: dropout after each layer, in [0, 1).
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token on its own.

        Args:
            x (Tensor[..., C]): tokens.

        Returns:
            Tensor[..., C]: tokens.
        """
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm(x + self.dropout(self.linear2(hidden)))
