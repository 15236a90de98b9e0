"""The switches of inference."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode

NET_REFINEMENTS = ("net", "affine_net")
"""Values of ``REFINE`` that need the refinement network."""
REFINEMENTS = ("none", "affine", *NET_REFINEMENTS)


@dataclass(frozen=True)
class TransferOptions:
    """Switches of inference; the defaults are the paper's. See ``config/mask_transfer.py``."""

    context: float = 1.0
    subpixel: bool = False
    topk: int = 1
    refine: str = "none"
    clip_to_box: bool = False
    union_visible: bool = False
    ring: int = 5
    rerank: float = 0.0
    min_score: float = 0.0
    rescore: float = 0.0
    shortlist: int = 0
    track_vote: bool = False
    track_smooth: float = 1.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.topk < 1 or self.shortlist < 0 or self.ring < 0 or self.context <= 0:
            raise ValueError(
                "TransferOptions: expected TOPK >= 1, SHORTLIST >= 0, RING >= 0 and CONTEXT > 0, "
                f"got {self.topk}, {self.shortlist}, {self.ring} and {self.context}"
            )
        if self.track_vote and self.shortlist:
            raise ValueError(
                "TransferOptions: expected SHORTLIST 0 with TRACK_VOTE, which compares the same "
                f"references in all frames, got {self.shortlist}"
            )
        if self.track_smooth < 0:
            raise ValueError(
                f"TransferOptions: expected TRACK_SMOOTH >= 0, got {self.track_smooth}"
            )
        if self.refine not in REFINEMENTS:
            raise ValueError(
                f"TransferOptions: expected REFINE of {REFINEMENTS}, got {self.refine!r}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TransferOptions:
        """Read the keys of ``MODEL.MASK_TRANSFER``."""
        node = cfg.MODEL.MASK_TRANSFER
        return cls(**{name: node[name.upper()] for name in cls.__dataclass_fields__})
