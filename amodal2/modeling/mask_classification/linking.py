"""Link the queries of one frame to those of the next (MinVIS, Sec. 3.2).

Shapes: N queries, C channels, K classes.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass
class LinkState:
    """What is carried from frame to frame, in the order of the tracks.

    Attributes:
        queries (Tensor[N, C] or None): query embeddings of the last frame; None before the first.
        logits (Tensor[N, K+1] or None): weighted sum of the class logits.
        weight: sum of the weights.
    """

    queries: Tensor | None = None
    logits: Tensor | None = None
    weight: float = 0.0


class QueryLinker:
    """Follows every query through the video by the similarity of its embeddings.

    Args:
        decay: weight of a frame's class logits relative to the next frame's, in (0, 1]; 1 averages
            over all frames.

    Raises:
        ValueError: if ``decay`` is outside its range.
    """

    def __init__(self, decay: float = 1.0) -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"QueryLinker: expected SCORE_DECAY in (0, 1], got {decay}")
        self.decay = decay

    def __call__(
        self, state: LinkState, queries: Tensor, logits: Tensor, frames: int = 1
    ) -> tuple[Tensor, LinkState]:
        """Bring the queries of the next frame, or window of frames, into the order of the tracks.

        Args:
            state: after the frames before.
            queries (Tensor[N, C]): normalised query embeddings.
            logits (Tensor[N, K+1]): their class logits.
            frames: frames for which the logits count.

        Returns:
            the query of every track (Tensor[N], int64), and the state afterwards.
        """
        queries, logits = queries.float(), logits.float()
        if state.queries is None or state.logits is None:
            order = torch.arange(len(queries), device=queries.device)
            return order, LinkState(queries, frames * logits, frames)
        order = link_queries(state.queries, queries)
        keep = self.decay**frames
        total = keep * state.logits + frames * logits[order]
        weight = keep * state.weight + frames
        return order, replace(state, queries=queries[order], logits=total, weight=weight)


def link_queries(before: Tensor, after: Tensor) -> Tensor:
    """Match embeddings one to one at the least sum of one minus the cosine.

    Args:
        before (Tensor[N, C]): embeddings in the order of the tracks.
        after (Tensor[N, C]): embeddings of the next frame.

    Returns:
        Tensor[N]: int64, the entry of ``after`` for every entry of ``before``.
    """
    similarity = F.normalize(before, dim=1) @ F.normalize(after, dim=1).t()
    _, columns = linear_sum_assignment((1 - similarity).cpu().numpy())
    return torch.as_tensor(columns, device=after.device)


def track_scores(state: LinkState) -> Tensor:
    """Classify the tracks by their mean logits.

    Args:
        state: after at least one frame.

    Returns:
        Tensor[N, K]: probabilities; what is missing to 1 is "no object".

    Raises:
        ValueError: if no frame was processed.
    """
    if state.logits is None:
        raise ValueError(
            "class_scores: expected the state after at least one clip, got the first one"
        )
    return (state.logits / state.weight).softmax(-1)[:, :-1]
