"""Masked-attention decoder with queries that all frames of a clip share (Mask2Former-VIS, Sec. 2).

Shapes: B clips, T frames, N queries, C channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.layers import sine_position_3d
from amodal2.modeling.mask_classification.head import MaskFormerHead
from amodal2.modeling.mask_classification.transformer_decoder import (
    DecoderKeys,
    DecoderOutput,
    MaskPrediction,
    MultiScaleMaskedTransformerDecoder,
)


@dataclass
class FrameKeys:
    """What the decoder reads of some frames of a clip, without position codes.

    Attributes:
        sizes: (h, w) of each level.
        memories (list of Tensor[B, T, h*w, C]): projected features of each level.
        small_features (list of Tensor[B, T, h*w, D]): mask features at each level's size.
    """

    sizes: list[tuple[int, int]]
    memories: list[Tensor]
    small_features: list[Tensor]


class VideoMaskedTransformerDecoder(MultiScaleMaskedTransformerDecoder):
    """Queries that attend to the pixels of all frames; each has one class and a mask per frame.

    The parameters are those of the image decoder, whose weights load.
    """

    def frame_keys(self, levels: list[Tensor], mask_features: Tensor) -> FrameKeys:
        """Prepare frames, which may be a part of the clip.

        Args:
            levels (list of Tensor[B, T, c, h, w]): features at strides 32, 16, 8.
            mask_features (Tensor[B, T, D, h, w]): per-pixel features at stride 4.

        Returns:
            FrameKeys: see there.
        """
        sizes = [(x.shape[-2], x.shape[-1]) for x in levels]
        memories, small_features = [], []
        flat = mask_features.detach().flatten(0, 1)
        rows = zip(levels, sizes, self.input_proj, self.level_embed.weight, strict=True)
        for x, size, proj, embed in rows:
            memory = proj(x.flatten(0, 1)).flatten(2).transpose(1, 2) + embed
            memories.append(memory.unflatten(0, x.shape[:2]))
            small = F.interpolate(flat, size, mode="bilinear", align_corners=False)
            small_features.append(small.flatten(2).transpose(1, 2).unflatten(0, x.shape[:2]))
        return FrameKeys(sizes, memories, small_features)

    def join(self, parts: list[FrameKeys]) -> DecoderKeys:
        """Put the frames of a clip together and give every pixel its position in it.

        Args:
            parts: consecutive frames.

        Returns:
            DecoderKeys: keys of all frames, frame slowest.
        """
        memories, codes, small_features = [], [], []
        for level, (h, w) in enumerate(parts[0].sizes):
            memory = torch.cat([part.memories[level] for part in parts], dim=1)
            small = torch.cat([part.small_features[level] for part in parts], dim=1)
            frames, channels = memory.shape[1], memory.shape[-1]
            code = sine_position_3d(frames, h, w, channels, memory)
            codes.append(code.permute(0, 2, 3, 1).reshape(1, -1, channels).to(memory.dtype))
            memories.append(memory.flatten(1, 2))
            small_features.append(small.flatten(1, 2).transpose(1, 2))
        return DecoderKeys(memories, codes, small_features)

    def prepare(self, levels: list[Tensor], mask_features: Tensor) -> DecoderKeys:
        """Make keys of whole clips; see :meth:`frame_keys` for the shapes."""
        return self.join([self.frame_keys(levels, mask_features)])

    def predict(self, normed: Tensor, mask_features: Tensor) -> MaskPrediction:
        """Classify queries and draw their masks in all frames.

        Args:
            normed (Tensor[B, N, C]): normalised states.
            mask_features (Tensor[B, T, mask_dim, h, w]): per-pixel features at stride 4.

        Returns:
            MaskPrediction: of these queries.
        """
        masks = torch.einsum("bnc,btchw->bnthw", self.mask_embed(normed), mask_features)
        return MaskPrediction(self.class_embed(normed), masks)


class VideoMaskFormerHead(MaskFormerHead):
    """Pixel decoder for single frames, mask decoder for clips."""

    predictor: VideoMaskedTransformerDecoder
    predictor_type = VideoMaskedTransformerDecoder

    def forward(
        self,
        features: dict[str, Tensor],
        *,
        predict: bool = True,
        last: int = 1,
        frames: int = 1,
    ) -> tuple[DecoderOutput, Tensor]:
        """Detect the objects of clips.

        Args:
            features (dict[str, Tensor[B*T, c, h, w]]): backbone outputs, frame fastest.
            predict: see :class:`MaskFormerHead`.
            last: see :class:`MaskFormerHead`.
            frames: T.

        Returns:
            the decoder's output and the map P4 (Tensor[B*T, CONVS_DIM, H/4, W/4]).
        """
        mask_features, fine, levels = self.pixel_decoder(features)
        clips = [x.unflatten(0, (-1, frames)) for x in levels]
        masks = mask_features.unflatten(0, (-1, frames))
        return self.predictor(clips, masks, predict=predict, last=last), fine
