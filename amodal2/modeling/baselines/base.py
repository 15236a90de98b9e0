"""What the baselines share: one kind of mask, as target and as output."""

from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from amodal2.modeling.mask_classification.head import MaskFormerHead
from amodal2.modeling.mask_classification.padding import pad_to_multiple
from amodal2.modeling.mask_classification.segmenter import VideoSegmenter, segmenter_arguments
from amodal2.modeling.mask_classification.targets import SampleBatch
from amodal2.structures.clip import ClipOutput

Sizes = tuple[tuple[int, int], tuple[int, int]]
"""Size of the padded input and of the image in it, (height, width) in pixels."""


class Baseline(VideoSegmenter):
    """A video model that knows visible masks or amodal masks, not both.

    Args:
        masks: "visible" or "amodal".
        **shared: arguments of :class:`VideoSegmenter`.

    Raises:
        ValueError: if ``masks`` is unknown.
    """

    def __init__(self, *, masks: str = "visible", **shared: Any) -> None:
        super().__init__(**shared)
        if masks not in ("visible", "amodal"):
            raise ValueError(
                f"{type(self).__name__}: expected MODEL.BASELINES.MASKS visible or amodal, got "
                f"{masks!r}"
            )
        self.masks = masks

    def _frame_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        output, _ = self._detect(batch.images.flatten(0, 1), predict=True, detected=batch.detected)
        return self.criterion(output.predictions, batch.frame_targets(kind=self.masks))

    def _prepare_clip(self, frames: Tensor) -> tuple[Tensor, Sizes]:
        """Normalise and pad the frames of a clip."""
        images = self._normalise(frames)
        size = (images.shape[-2], images.shape[-1])
        images = pad_to_multiple(images, self.size_divisibility)
        return images, ((images.shape[-2], images.shape[-1]), size)

    def _clip_output(self, logits: Tensor, sizes: Sizes) -> ClipOutput:
        """Present mask logits [N, T, h, w] as the kind that they are."""
        logits = logits.float()
        if self.masks == "visible":
            return ClipOutput(logits, None, *sizes)
        return ClipOutput(None, logits, *sizes)


def baseline_arguments(
    cfg: CfgNode, name: str, head_type: type[MaskFormerHead] = MaskFormerHead
) -> dict[str, Any]:
    """Translate the keys that all baselines share into arguments of :class:`Baseline`.

    Args:
        cfg: configuration.
        name: the model's, for messages.
        head_type: head of the frame detector.

    Returns:
        dict: keyword arguments.
    """
    node = cfg.MODEL.BASELINES
    return segmenter_arguments(cfg, name, head_type) | {
        "masks": node.MASKS,
        "train_level": node.TRAIN_LEVEL,
        "freeze_detector": node.FREEZE_DETECTOR,
    }
