"""Global instance prototypes and their class head (A2VIS, Sec. 3.3 and 3.7, Eq. 2).

Shapes: B videos, N slots, C channels, K classes.
"""

import torch
from torch import Tensor, nn

from amodal2.layers import MLP, MultiheadAttention


class PrototypeUpdate(nn.Module):
    """Cross-attention from the global prototypes to those of the current clip (Eq. 2).

    Args:
        dim: channels C.
        num_heads: attention heads.
        softmax_axis: "local" (over the clip's prototypes), "global" (over the slots) or "none".
        norm: LayerNorm after the residual.
        null_token: a learned key with zero value beside the clip's prototypes.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        softmax_axis: str = "local",
        norm: bool = True,
        null_token: bool = False,
    ) -> None:
        super().__init__()
        self.attn = MultiheadAttention(dim, num_heads, softmax_axis=softmax_axis)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.null_key = nn.Parameter(torch.randn(dim)) if null_token else None

    def forward(self, prototypes: Tensor, clip_prototypes: Tensor, query_pos: Tensor) -> Tensor:
        """Renew the global prototypes.

        Args:
            prototypes (Tensor[B, N, C]): global prototypes p^G.
            clip_prototypes (Tensor[B, N, C]): the clip's prototypes p^k.
            query_pos (Tensor[1, N, C]): position code added to the queries.

        Returns:
            Tensor[B, N, C]: p^G after Eq. 2.
        """
        read = self.attn(
            prototypes + query_pos, clip_prototypes, clip_prototypes, null_key=self.null_key
        )
        return self.norm(prototypes + read)


class ClassHead(nn.Module):
    """MLP and linear layer that classify the global prototypes (Sec. 3.7).

    Args:
        dim: channels C.
        num_classes: object classes K.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.mlp = MLP(dim, dim, dim, 2, activate_last=True)
        self.fc = nn.Linear(dim, num_classes + 1)

    def forward(self, prototypes: Tensor) -> Tensor:
        """Classify every slot.

        Args:
            prototypes (Tensor[B, N, C]): global prototypes.

        Returns:
            Tensor[B, N, K+1]: logits, the last one "no object".
        """
        return self.fc(self.mlp(prototypes))
