"""What a model returns for one clip of a video, and how its logits become masks.

Letters: N slots, T frames of the clip, (h, w) logit size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass
class ClipOutput:
    """Mask logits of all slots over the frames of one clip.

    The logits cover the network input *with* its padding. To get masks: resample them bilinearly
    (``align_corners=False``) to ``padded_size``, cut off the padding at ``image_size``, resample to
    the wanted size and keep what is above 0.

    Attributes:
        visible_logits (Tensor[N, T, h, w] | None): logits of the visible part of each slot; None if
            the model does not predict it.
        amodal_logits (Tensor[N, T, h, w] | None): logits of the whole object; None if the model
            does not predict it.
        padded_size (tuple[int, int]): height and width in pixels of the padded network input.
        image_size (tuple[int, int]): height and width in pixels of its valid part, top left.
    """

    visible_logits: Tensor | None
    amodal_logits: Tensor | None
    padded_size: tuple[int, int]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: if a shape or size contradicts another one.
        """
        visible, amodal = self.visible_logits, self.amodal_logits
        if visible is None and amodal is None:
            raise ValueError("ClipOutput: expected logits of at least one kind of mask, got none")
        for kind, logits in (("visible", visible), ("amodal", amodal)):
            if logits is not None and logits.ndim != 4:
                raise ValueError(
                    f"ClipOutput: expected {kind}_logits [N, T, h, w], "
                    f"got shape {tuple(logits.shape)}"
                )
        if visible is not None and amodal is not None and amodal.shape != visible.shape:
            raise ValueError(
                f"ClipOutput: expected amodal_logits {tuple(visible.shape)} as the "
                f"visible ones, got {tuple(amodal.shape)}"
            )
        if any(i < 1 or i > p for i, p in zip(self.image_size, self.padded_size, strict=True)):
            raise ValueError(
                f"ClipOutput: expected image_size within padded_size {self.padded_size}, "
                f"got {self.image_size}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number N of slots, number T of frames, height h and width w of the logits."""
        logits = self.amodal_logits if self.visible_logits is None else self.visible_logits
        assert logits is not None, "a clip has one kind of mask at least"
        slots, frames, h, w = logits.shape
        return slots, frames, h, w

    @property
    def num_slots(self) -> int:
        """Number N of slots."""
        return self.shape[0]

    @property
    def num_frames(self) -> int:
        """Number T of frames."""
        return self.shape[1]


def resample_logits(
    logits: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Bring logits of the padded network input to the size of the output.

    Args:
        logits (Tensor[A, B, h, w]): float logits that cover the padded input.
        padded_size (tuple[int, int]): height and width in pixels of the padded input.
        image_size (tuple[int, int]): height and width in pixels of its valid part, top left.
        output_size (tuple[int, int]): wanted height and width in pixels.

    Returns:
        Tensor[A, B, H, W]: logits at ``output_size``, same dtype and device.
    """
    full = functional.interpolate(logits, size=padded_size, mode="bilinear", align_corners=False)
    full = full[..., : image_size[0], : image_size[1]]
    if tuple(image_size) == tuple(output_size):
        return full
    return functional.interpolate(full, size=output_size, mode="bilinear", align_corners=False)
