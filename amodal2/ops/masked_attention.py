"""Multi-head attention of few queries to many keys under a boolean mask shared by all heads.

The masked cross-attention of Mask2Former (Sec. 3.2.1, Eq. 2) and of A2VIS (Sec. 3.6) without its
projections. Letters: B batch, Q queries, S keys, M heads, D channels per head, P keys of the mask.

How dense the masks are, on the shipped model (``a2vis/quick/a2vis_aquarium.yaml``; 4 videos of 32
frames from ``datasets/prepare_aquarium.py --train 0 --val 4 --seed 20 --size 240x160 --frames 32
--format png``), printed by ``tools/benchmarks/mask_densities.py``: per cent of allowed keys in rows
that allow any (mean, median, 90 % quantile), rows that allow none and so attend everywhere, density
that remains to be computed, and mean length of a run of allowed keys:

====================  ==  ====  ====  ======  ====  ==========  ========  ====
layer                 Q   P     mean  median  p90   empty rows  computed  run
====================  ==  ====  ====  ======  ====  ==========  ========  ====
decoder, stride 32    20  40    4.4   5.0     7.5   72.9        74.1      1.2
decoder, stride 16    20  160   3.0   2.5     6.2   59.0        60.2      2.1
decoder, stride 8     20  640   2.4   1.9     5.3   47.9        49.2      3.3
SAMH 1                20  2560  7.1   3.7     7.7   0.0         7.1       10.5
SAMH 2                20  2560  7.3   3.9     8.0   0.0         7.3       10.6
====================  ==  ====  ====  ======  ====  ==========  ========  ====

So rows are either nearly empty or full, often side by side, and runs are short. The CPU kernel
chooses per row by its density: sparse rows take their keys from a list, whatever the runs, the
others share dense tiles. The CUDA kernel skips tiles of 32 keys that none of 16 queries may see; it
compiles for sm_80 and sm_90 but has not run yet.

The reference here runs wherever no compiled kernel is registered; it attends densely. All compute
in float32 (float64 for float64 inputs).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from amodal2.ops._library import LIBRARY, refuse_double_backward

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

LIBRARY.define(
    "masked_attention(Tensor query, Tensor key, Tensor value, Tensor? allow, float scale)"
    " -> (Tensor, Tensor)"
)
LIBRARY.define(
    "_masked_attention_backward(Tensor grad_output, Tensor query, Tensor key, Tensor value, "
    "Tensor? allow, Tensor output, Tensor logsumexp, float scale) -> (Tensor, Tensor, Tensor)"
)


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allow: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Average the values of the allowed keys, weighted by the softmax of scaled dot products.

    Rows of the mask without any allowed key attend everywhere. No tensor of scores is kept, and
    the mask is read once for all heads.

    Args:
        query (Tensor[B, Q, M, D]): float64, float32, bfloat16 or float16.
        key (Tensor[B, S, M, D]): same type and device.
        value (Tensor[B, S, M, D]): same type and device; must be finite at forbidden keys too.
        allow (Tensor[B, Q, P] | None): bool, True where a query may attend. S is a multiple of P,
            and key s follows entry s mod P: one mask may serve all frames of a clip. None allows
            everything.
        scale (float | None): factor of the dot products, D ** -0.5 if None.

    Returns:
        Tensor[B, Q, M, D]: contiguous, dtype and device of ``query``; zeros if S = 0.

    Raises:
        TypeError: if a tensor is not of a supported type, or the types differ.
        ValueError: if the shapes do not fit together, the devices differ, or D > 128 on CUDA.

    Note:
        Differentiable once in query, key and value; a double backward raises RuntimeError. Under
        autocast the three are cast to its type. Views with any strides are legal, and those with a
        dense last dimension (of a multiple of 8 channels) are not copied by the float32 CPU kernel,
        which is deterministic, forward and backward, for any number of threads; it converts short
        types as a whole. The CUDA kernel takes D up to 128 and is deterministic on one kind of
        device.
    """
    if torch.is_autocast_enabled(query.device.type) and query.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    _check(query, key, value, allow)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    output, _ = torch.ops.amodal2.masked_attention(query, key, value, allow, factor)
    return output


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in _DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in _DTYPES)
        raise TypeError(f"masked_attention: expected query of type {names}, got {dtype}")
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check(query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None) -> None:
    """Raise ValueError or TypeError unless the arguments of the op fit together."""
    name = "masked_attention"
    _sum_dtype(query.dtype)
    for label, tensor, letter in (("query", query, "Q"), ("key", key, "S"), ("value", value, "S")):
        if tensor.dim() != 4:
            got = list(tensor.shape)
            raise ValueError(f"{name}: expected {label} [B, {letter}, M, D], got {got}")
    batch, queries, heads, depth = query.shape
    keys = key.shape[1]
    for label, tensor in (("key", key), ("value", value)):
        if tensor.shape != (batch, keys, heads, depth):
            raise ValueError(
                f"{name}: expected {label} [{batch}, {keys}, {heads}, {depth}] (B, M, D of query, "
                f"S of key), got {list(tensor.shape)}"
            )
        if tensor.dtype != query.dtype:
            raise TypeError(
                f"{name}: expected {label} of type {query.dtype} like query, got {tensor.dtype}"
            )
        _check_device(label, tensor, query)
    if allow is None:
        return
    if allow.dtype != torch.bool:
        raise TypeError(f"{name}: expected allow of type torch.bool, got {allow.dtype}")
    if allow.dim() != 3 or allow.shape[:2] != (batch, queries):
        got = list(allow.shape)
        raise ValueError(f"{name}: expected allow [{batch}, {queries}, P], got {got}")
    period = allow.shape[2]
    if period != keys and (period == 0 or keys % period):
        raise ValueError(
            f"{name}: expected allow for {keys} keys or a divisor of them, got one for {period}"
        )
    _check_device("allow", allow, query)


def _check_device(label: str, tensor: Tensor, query: Tensor) -> None:
    if tensor.device != query.device:
        raise ValueError(
            f"masked_attention: expected {label} on {query.device} like query, got {tensor.device}"
        )


def _heads_first(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).transpose(1, 2)


def _scores(query: Tensor, key: Tensor, allow: Tensor | None, scale: float) -> Tensor:
    """Return scaled dot products [B, M, Q, S], -inf where a query may not attend."""
    dtype = _sum_dtype(query.dtype)
    scores = _heads_first(query, dtype) @ _heads_first(key, dtype).transpose(-1, -2) * scale
    if allow is None:
        return scores
    mask = allow | ~allow.any(dim=-1, keepdim=True)
    if mask.shape[2] != key.shape[1]:
        mask = mask.repeat(1, 1, key.shape[1] // mask.shape[2])
    return scores.masked_fill(~mask[:, None], float("-inf"))


@torch.library.impl(LIBRARY, "masked_attention", "CompositeExplicitAutograd")
def _reference(
    query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend densely; also return the logarithm of the softmax's sums, [B, Q, M]."""
    _check(query, key, value, allow)
    scores = _scores(query, key, allow, scale)
    logsumexp = scores.logsumexp(dim=-1)
    weights = (scores - logsumexp[..., None]).exp()
    output = (weights @ _heads_first(value, scores.dtype)).transpose(1, 2)
    return output.to(query.dtype).contiguous(), logsumexp.transpose(1, 2).contiguous()


@torch.library.impl(LIBRARY, "_masked_attention_backward", "CompositeExplicitAutograd")
def _backward_reference(
    grad_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allow: Tensor | None,
    output: Tensor,
    logsumexp: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate ``_reference`` densely, with the weights computed again."""
    scores = _scores(query, key, allow, scale)
    dtype = scores.dtype
    weights = (scores - logsumexp.transpose(1, 2)[..., None]).exp()
    grad = _heads_first(grad_output, dtype)  # [B, M, Q, D]
    delta = (grad * _heads_first(output, dtype)).sum(-1, keepdim=True)
    by_weight = grad @ _heads_first(value, dtype).transpose(-1, -2)
    by_score = weights * (by_weight - delta) * scale
    grads = (
        by_score @ _heads_first(key, dtype),
        by_score.transpose(-1, -2) @ _heads_first(query, dtype),
        weights.transpose(-1, -2) @ grad,
    )
    by_query, by_key, by_value = (x.transpose(1, 2).to(query.dtype).contiguous() for x in grads)
    return by_query, by_key, by_value


@torch.library.register_fake("amodal2::masked_attention", lib=LIBRARY)
def _fake(
    query: Tensor, key: Tensor, value: Tensor, allow: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    _check(query, key, value, allow)
    sums = query.new_empty(query.shape[:3], dtype=_sum_dtype(query.dtype))
    return query.new_empty(query.shape), sums


@torch.library.register_fake("amodal2::_masked_attention_backward", lib=LIBRARY)
def _backward_fake(
    grad_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allow: Tensor | None,
    output: Tensor,
    logsumexp: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, allow, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, allow, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(
    ctx: Any, grad_output: Tensor, _grad_logsumexp: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, None, None]:
    grads = torch.ops.amodal2._masked_attention_backward(grad_output, *ctx.saved_tensors, ctx.scale)
    return grads[0], grads[1], grads[2], None, None


torch.library.register_autograd(
    "amodal2::masked_attention", _backward, setup_context=_setup_context, lib=LIBRARY
)
refuse_double_backward("masked_attention", "_masked_attention_backward")
