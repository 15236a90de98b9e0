"""The recurrent part of A2VIS, clip after clip (A2VIS, Sec. 3.2, Fig. 2)."""

from dataclasses import dataclass, field

from detectron2.config import CfgNode
from torch import Tensor, nn

from amodal2.layers import MLP
from amodal2.modeling.a2vis.prototypes import ClassHead, PrototypeUpdate
from amodal2.modeling.a2vis.samh import SAMH
from amodal2.modeling.a2vis.visible_mask_head import dot_product_masks


@dataclass
class ClipResult:
    """Output of the head for one clip.

    Attributes:
        visible_logits (Tensor[B, N, T, h, w]): visible masks.
        amodal_logits (list of Tensor[B, N, T, h, w]): before each SAMH layer, the final ones last;
            empty without SAMH.
        updated (Tensor[B, N, C]): prototypes after Eq. 2.
        carried (Tensor[B, N, C]): prototypes handed to the next clip.
        priors (list of Tensor[B, N, h, w]): bool prior masks of the SAMH layers.
    """

    visible_logits: Tensor
    amodal_logits: list[Tensor]
    updated: Tensor
    carried: Tensor
    priors: list[Tensor] = field(default_factory=list)


class A2VISHead(nn.Module):
    """Global prototypes with the heads that read them; parameters under the prefix ``a2vis``.

    Args:
        dim: channels C.
        num_slots: global prototypes N.
        num_classes: object classes K.
        update: the prototype update (Eq. 2).
        samh: the amodal head, or None for visible output only.
        init: first prototypes, "learned", "first_clip" or "zeros".
        carry: what the next clip starts from, "samh" or "update".

    Raises:
        ValueError: if ``init`` or ``carry`` is unknown, or ``carry`` is "update" without a norm in
            the update.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_slots: int,
        num_classes: int,
        update: PrototypeUpdate,
        samh: SAMH | None,
        init: str = "learned",
        carry: str = "samh",
    ) -> None:
        super().__init__()
        if init not in ("learned", "first_clip", "zeros"):
            raise ValueError(
                f"A2VISHead: expected UPDATE.INIT learned, first_clip or zeros, got {init!r}"
            )
        if carry not in ("samh", "update"):
            raise ValueError(f"A2VISHead: expected CARRY samh or update, got {carry!r}")
        if carry == "update" and isinstance(update.norm, nn.Identity):
            raise ValueError(
                "A2VISHead: expected UPDATE.NORM True with CARRY update, got False; the prototypes "
                "would grow from clip to clip"
            )
        self.init, self.carry = init, carry
        self.global_query_feat = nn.Embedding(num_slots, dim) if init == "learned" else None
        self.global_query_embed = nn.Embedding(num_slots, dim)
        self.update = update
        self.visible_embed = MLP(dim, dim, dim, 3)
        self.class_head = ClassHead(dim, num_classes)
        self.samh = samh

    def forward(
        self,
        prototypes: Tensor | None,
        clip_prototypes: Tensor,
        features: Tensor,
        valid: Tensor | None = None,
    ) -> ClipResult:
        """Process one clip.

        Args:
            prototypes (Tensor[B, N, C] or None): prototypes carried from the clip before; None for
                the first.
            clip_prototypes (Tensor[B, N, C]): p^k of this clip.
            features (Tensor[B, T, C, h, w]): mask features F of this clip.
            valid (Tensor[B, h, w]): optional bool map, False on padding.

        Returns:
            ClipResult: see there.
        """
        query_pos = self.global_query_embed.weight[None]
        if prototypes is None and self.init == "first_clip":
            updated = clip_prototypes
        else:
            if prototypes is None:
                prototypes = self._first(clip_prototypes)
            updated = self.update(prototypes, clip_prototypes, query_pos)
        visible = dot_product_masks(self.visible_embed, updated, features)
        if self.samh is None:
            return ClipResult(visible, [], updated, updated)
        out = self.samh(updated, features, visible, query_pos, valid)
        carried = out.prototypes if self.carry == "samh" else updated
        return ClipResult(visible, out.amodal_logits, updated, carried, out.priors)

    def classify(self, prototypes: Tensor) -> Tensor:
        """Classify prototypes carried out of a clip.

        Args:
            prototypes (Tensor[B, N, C]): carried prototypes.

        Returns:
            Tensor[B, N, K+1]: logits, the last one "no object".
        """
        return self.class_head(prototypes)

    def _first(self, clip_prototypes: Tensor) -> Tensor:
        if self.global_query_feat is None:
            return clip_prototypes.new_zeros(clip_prototypes.shape)
        return self.global_query_feat.weight[None].expand(clip_prototypes.shape[0], -1, -1)


def build_a2vis_head(cfg: CfgNode) -> A2VISHead:
    """Build the head from ``MODEL.A2VIS``.

    Args:
        cfg: configuration.

    Returns:
        A2VISHead: the head.
    """
    node, dim, heads = cfg.MODEL.A2VIS, cfg.MODEL.VITA.HIDDEN_DIM, cfg.MODEL.VITA.NHEADS
    update = PrototypeUpdate(
        dim,
        heads,
        softmax_axis=node.UPDATE.SOFTMAX_AXIS,
        norm=node.UPDATE.NORM,
        null_token=node.UPDATE.NULL_TOKEN,
    )
    samh = None
    if node.SAMH.ENABLED:
        samh = SAMH(
            dim,
            heads,
            num_layers=node.SAMH.NUM_LAYERS,
            num_convs=node.SAMH.NUM_CONVS,
            norm=node.SAMH.NORM,
            use_vspm=node.SAMH.USE_VSPM,
            use_aspm=node.SAMH.USE_ASPM,
            pos_enc=node.SAMH.POS_ENC,
            attn_stride=node.SAMH.ATTN_STRIDE,
            feat_pos=node.SAMH.FEAT_POS,
            share_layers=node.SAMH.SHARE_LAYERS,
            ffn_dim=node.SAMH.FFN_DIM,
            residual=node.SAMH.RESIDUAL,
        )
    return A2VISHead(
        dim=dim,
        num_slots=cfg.MODEL.VITA.NUM_OBJECT_QUERIES,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        update=update,
        samh=samh,
        init=node.UPDATE.INIT,
        carry=node.CARRY,
    )
