"""Low-rank adaptation of the attention layers (Hu et al., 2021), for fine-tuning on one GPU.

A layer's weight W stays as it is; B A is added to it, with A of r rows and B of r columns, B from
zero. Only A and B are trained. In checkpoints they are ``lora_a`` and ``lora_b`` beside the weight;
:func:`merge_lora` adds them to it. Written here because diffusers' own needs the library peft.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
"""Ends of the names of the layers that are adapted."""

_A, _B = "lora_a", "lora_b"


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank addition to its weight.

    Attributes:
        lora_a (Parameter[r, in]): random.
        lora_b (Parameter[out, r]): zeros at first.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, values: Tensor) -> Tensor:
        """Apply W + B A.

        Args:
            values (Tensor[..., in]): float.

        Returns:
            Tensor[..., out]: float.
        """
        low = nn.functional.linear(values, self.lora_a)
        return super().forward(values) + nn.functional.linear(low, self.lora_b)


def add_lora(network: nn.Module, rank: int) -> None:
    """Adapt the attention layers of a network.

    Args:
        network: changed in place; it computes what it did before.
        rank: r, at least 1.

    Raises:
        ValueError: if the rank is below 1, or there is no such layer.
    """
    chosen = [
        layer
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear and name.endswith(LAYERS)
    ]
    if rank < 1 or not chosen:
        raise ValueError(
            f"add_lora: expected a rank of at least 1 and layers {LAYERS}, got {rank} and "
            f"{len(chosen)} layers"
        )
    for layer in chosen:
        layer.__class__ = LoRALinear
        rows = layer.weight.new_empty(rank, layer.in_features)
        nn.init.kaiming_uniform_(rows, a=math.sqrt(5))
        layer.register_parameter(_A, nn.Parameter(rows))
        columns = layer.weight.new_zeros(layer.out_features, rank)
        layer.register_parameter(_B, nn.Parameter(columns))


def merge_lora(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the low-rank parts to the weights.

    Args:
        state: of a checkpoint; without such parts it is returned as it is.

    Returns:
        dict: the same names without ``lora_a`` and ``lora_b``.
    """
    merged = {k: v for k, v in state.items() if k.rpartition(".")[2] not in (_A, _B)}
    for name in [k.removesuffix(_A) for k in state if k.rpartition(".")[2] == _A]:
        weight = state[f"{name}weight"]
        addition = state[f"{name}{_B}"].float() @ state[f"{name}{_A}"].float()
        merged[f"{name}weight"] = (weight.float() + addition).to(weight.dtype)
    return merged
