"""GenVIS: clip queries that go on from clip to clip, with a memory of every slot (Sec. 3.1, 3.3).

Shapes: X = L*B clips (frame decoder layers times videos), cQ clip queries, C channels, M clips in
the memory.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amodal2.modeling.mask_classification.object_association import ClipQueries, ObjectAssociation


@dataclass
class ClipMemory:
    """What GenVIS carries from clip to clip.

    Attributes:
        state (Tensor[X, cQ, C]): last state of the object decoder, before its norm.
        keys (Tensor[M, X, cQ, C]): one key per slot and clip.
        values (Tensor[M, X, cQ, C]): one value per slot and clip.
    """

    state: Tensor
    keys: Tensor
    values: Tensor


class RecurrentAssociation(ObjectAssociation):
    """Object association whose queries start from the clip before and from a memory.

    Args:
        memory_cap: clips that the memory holds, the latest ones; 0 holds all.
        **association: arguments of :class:`ObjectAssociation`.

    Raises:
        ValueError: if ``memory_cap`` is negative.
    """

    def __init__(self, *, memory_cap: int = 0, **association: Any) -> None:
        super().__init__(**association)
        if memory_cap < 0:
            raise ValueError(
                f"RecurrentAssociation: expected MODEL.GENVIS.MEMORY_CAP of at least 0, got "
                f"{memory_cap}"
            )
        self.memory_cap = memory_cap
        dim = self.query_feat.embedding_dim
        self.pre_memory_embed_k = nn.Linear(dim, dim)
        self.pre_memory_embed_v = nn.Linear(dim, dim)
        self.pre_query_embed_k = nn.Linear(dim, dim)
        self.pre_query_embed_v = nn.Linear(dim, dim)

    def next_clip(
        self, frame_queries: Tensor, memory: ClipMemory | None, *, similarity: bool = True
    ) -> tuple[ClipQueries, ClipMemory]:
        """Associate the objects of the next clip.

        Args:
            frame_queries (Tensor[L, B, T, fQ, in_dim]): normalised frame queries of the clip.
            memory: of the clips before; None for the first clip.
            similarity: False leaves out the similarity embeddings.

        Returns:
            the clip queries and the memory with this clip.
        """
        layers, batch = frame_queries.shape[:2]
        if memory is None:
            state = self.query_feat.weight.expand(layers * batch, -1, -1)
        else:
            state = memory.state
        start = state + self.pre_query_embed_v(state)
        if memory is not None:
            start = start + self._read(self.pre_query_embed_k(state), memory)
        queries, last = self.associate(frame_queries, start, similarity=similarity)
        normed = self.decoder_norm(last)[None]
        keys, values = self.pre_memory_embed_k(normed), self.pre_memory_embed_v(normed)
        if memory is not None:
            keys = torch.cat((memory.keys, keys))[-self.memory_cap :]
            values = torch.cat((memory.values, values))[-self.memory_cap :]
        return queries, ClipMemory(last, keys, values)

    @staticmethod
    def _read(queries: Tensor, memory: ClipMemory) -> Tensor:
        """Let every slot read its own entries (unscaled dot product, softmax over the clips)."""
        weights = torch.einsum("xqc,mxqc->mxq", queries, memory.keys).softmax(0)
        return torch.einsum("mxq,mxqc->xqc", weights, memory.values)
