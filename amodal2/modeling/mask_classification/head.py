"""The frame detector's head, under the official prefix ``sem_seg_head``."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from amodal2.modeling.mask_classification.pixel_decoder import MSDeformAttnPixelDecoder
from amodal2.modeling.mask_classification.transformer_decoder import (
    DecoderOutput,
    MultiScaleMaskedTransformerDecoder,
)


class MaskFormerHead(nn.Module):
    """Pixel decoder followed by the masked-attention decoder.

    Args:
        pixel_decoder: gives mask features and three levels.
        predictor: the mask decoder.
    """

    predictor_type = MultiScaleMaskedTransformerDecoder

    def __init__(
        self,
        pixel_decoder: MSDeformAttnPixelDecoder,
        predictor: MultiScaleMaskedTransformerDecoder,
    ) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    def forward(
        self, features: dict[str, Tensor], *, predict: bool = True, last: int = 1
    ) -> tuple[DecoderOutput, Tensor]:
        """Detect the objects of single images.

        Args:
            features (dict[str, Tensor[B, c, h, w]]): backbone outputs.
            predict: False leaves out the class and mask predictions.
            last: outside training, predictions of this many steps at the end.

        Returns:
            the decoder's output and the map P4 (Tensor[B, CONVS_DIM, H/4, W/4]).
        """
        mask_features, fine, levels = self.pixel_decoder(features)
        return self.predictor(levels, mask_features, predict=predict, last=last), fine

    def repeat(
        self, queries: Tensor, fine: Tensor, *, predict: bool = True, last: int = 1
    ) -> DecoderOutput:
        """Give the output again that belongs to known queries.

        Args:
            queries (Tensor[L, B, N, C]): normalised states after the last L layers.
            fine (Tensor[B, CONVS_DIM, H/4, W/4]): the map P4.
            predict: False leaves out the class and mask predictions.
            last: predictions of this many layers at the end.

        Returns:
            DecoderOutput: with these queries.

        Raises:
            ValueError: if queries of more layers are needed than there are.
        """
        if last > len(queries):
            raise ValueError(
                f"MaskFormerHead.repeat: expected queries of {last} layers, got {len(queries)}"
            )
        predictions = []
        if predict:
            mask_features = self.pixel_decoder.mask_features(fine)
            predictions = [self.predictor.predict(x, mask_features) for x in queries[-last:]]
        return DecoderOutput(predictions, queries)


def build_mask_former_head(
    cfg: CfgNode,
    input_shape: dict[str, ShapeSpec],
    head_type: type[MaskFormerHead] = MaskFormerHead,
) -> MaskFormerHead:
    """Build the frame detector's head from ``MODEL.SEM_SEG_HEAD`` and ``MODEL.MASK_FORMER``.

    Args:
        cfg: configuration.
        input_shape: backbone outputs.
        head_type: for images or for clips.

    Returns:
        MaskFormerHead: the head.

    Raises:
        ValueError: if a feature of IN_FEATURES is not among the backbone's outputs, or DEC_LAYERS
            leaves no decoder layer.
    """
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    missing = [name for name in head.IN_FEATURES if name not in input_shape]
    if missing:
        raise ValueError(
            f"build_mask_former_head: expected backbone features {head.IN_FEATURES}, got "
            f"{sorted(input_shape)}; set the backbone's OUT_FEATURES or "
            "MODEL.SEM_SEG_HEAD.IN_FEATURES"
        )
    if former.DEC_LAYERS < 2:
        raise ValueError(
            "build_mask_former_head: expected MODEL.MASK_FORMER.DEC_LAYERS to be at least 2, got "
            f"{former.DEC_LAYERS}; the learnable queries count as one"
        )
    pixel_decoder = MSDeformAttnPixelDecoder(
        {name: input_shape[name] for name in head.IN_FEATURES},
        conv_dim=head.CONVS_DIM,
        mask_dim=head.MASK_DIM,
        norm=head.NORM,
        num_heads=former.NHEADS,
        enc_layers=head.TRANSFORMER_ENC_LAYERS,
        enc_hidden_dim=head.TRANSFORMER_ENC_DIM_FEEDFORWARD,
        enc_points=head.TRANSFORMER_ENC_POINTS,
        amp=head.AMP,
    )
    predictor = head_type.predictor_type(
        in_channels=head.CONVS_DIM,
        num_classes=head.NUM_CLASSES,
        hidden_dim=former.HIDDEN_DIM,
        num_queries=former.NUM_OBJECT_QUERIES,
        num_heads=former.NHEADS,
        hidden_ffn=former.DIM_FEEDFORWARD,
        num_layers=former.DEC_LAYERS - 1,
        mask_dim=head.MASK_DIM,
        enforce_input_project=former.ENFORCE_INPUT_PROJ,
        dropout=former.DROPOUT,
    )
    return head_type(pixel_decoder, predictor)
