"""Read the attention of SAMH while it runs, without a trace in its own code (A2VIS, Fig. 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from amodal2.modeling.a2vis.samh import SAMH, SAMHLayer, SAMHOutput
from amodal2.structures.attention_maps import AttentionMaps


@contextmanager
def record_attention(samh: SAMH, slots: Sequence[int]) -> Iterator[list[AttentionMaps]]:
    """Collect the attention of some slots from every clip that the head works on.

    Args:
        samh: in evaluation, on one video at a time.
        slots: indices of the slots, in the order of the maps.

    Yields:
        list[AttentionMaps]: empty; each clip adds one. What was read may be taken out.
    """
    found: list[AttentionMaps] = []
    weights: list[Tensor] = []
    chosen = list(slots)

    def after_layer(layer: SAMHLayer, inputs: tuple[Any, ...], _: Tensor) -> None:
        p, query_pos, keys, _, allow = inputs
        query = p if query_pos is None else p + query_pos
        allow = None if allow is None else allow[:1, chosen]
        weights[:] = [layer.cross_attn.weights(query[:1, chosen], keys[:1], allow)[0]]

    def after_clip(head: SAMH, inputs: tuple[Any, ...], output: SAMHOutput) -> None:
        visible = inputs[2][:1, chosen]
        amodal = output.amodal_logits[-2][:1, chosen]
        seen, guessed = head.united_mask(visible)[0], head.united_mask(amodal)[0]
        found.append(
            AttentionMaps(
                seen & head.use_vspm,
                guessed & head.use_aspm,
                weights.pop().unflatten(-1, (visible.shape[2], *seen.shape[-2:])),
            )
        )

    hooks = [layer.register_forward_hook(after_layer) for layer in samh.layers]
    hooks.append(samh.register_forward_hook(after_clip))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
