"""From training samples to padded tensors and targets.

Shapes: B videos, T frames, M objects, H W the padded size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.mask_classification.criterion import MaskTarget
from amodal2.modeling.mask_classification.padding import valid_area
from amodal2.modeling.mask_classification.points import sample_generator
from amodal2.structures import fields
from amodal2.structures.detector_cache import DetectedFrames


@dataclass
class VideoTarget:
    """Objects of one video sample.

    Attributes:
        labels (Tensor[M]): int64 classes.
        visible (Tensor[M, T, H, W]): bool visible masks on the padded frames.
        amodal (Tensor[M, T, H, W]): bool amodal masks, empty before an object is first visible.
        generator: generator of the sample's random points.
    """

    labels: Tensor
    visible: Tensor
    amodal: Tensor
    generator: torch.Generator


@dataclass
class SampleBatch:
    """A batch of video samples of equal length and padded size.

    Attributes:
        images (Tensor[B, T, 3, H, W]): normalised, zero on padding.
        image_sizes: (height, width) of each sample before padding.
        labels (list of Tensor[M]): int64 classes of the objects of each sample.
        visible (list of Tensor[M, T, H, W]): bool.
        amodal (list of Tensor[M, T, H, W] or None): bool; None for a sample without amodal masks.
        video_ids: of the samples, for messages.
        seeds: seed of each sample's random points; None draws one.
        detected: what the fixed detector gave for the flattened images; None if it is not known.
    """

    images: Tensor
    image_sizes: list[tuple[int, int]]
    labels: list[Tensor]
    visible: list[Tensor]
    amodal: list[Tensor | None]
    video_ids: list[int | None]
    seeds: list[int | None]
    detected: DetectedFrames | None = None

    def video_targets(self, *, with_amodal: bool = True) -> list[VideoTarget]:
        """Return the targets of whole samples, with fresh generators.

        Args:
            with_amodal: False puts the visible masks where amodal masks are missing, for a model
                that does not predict them.

        Raises:
            ValueError: if amodal masks are needed and a sample has none.
        """
        targets = []
        for i, (visible, amodal) in enumerate(zip(self.visible, self.amodal, strict=True)):
            if amodal is None and with_amodal:
                raise ValueError(
                    "SampleBatch.video_targets: expected amodal masks of every object at video "
                    f"level, got objects without in video {self.video_ids[i]}; annotate "
                    "amodal_segmentations, or set MODEL.A2VIS.SAMH.ENABLED False"
                )
            masks = visible if amodal is None else amodal
            generator = sample_generator(self.seeds[i])
            targets.append(VideoTarget(self.labels[i], visible, masks, generator))
        return targets

    def mask_targets(self, kind: str) -> list[MaskTarget]:
        """Return one kind of mask of whole samples, with fresh generators.

        Args:
            kind: "visible" or "amodal".

        Returns:
            list of MaskTarget: one per sample.

        Raises:
            ValueError: if amodal masks are wanted and a sample has none.
        """
        return [
            MaskTarget(labels, masks, sample_generator(seed))
            for labels, masks, seed in zip(
                self.labels, self._masks_of(kind), self.seeds, strict=True
            )
        ]

    def frame_targets(self, stream: int = 0, kind: str = "visible") -> list[MaskTarget]:
        """Return the objects that are visible in every frame, in the order of the flattened images.

        Args:
            stream: sequence of random points; those of the other targets are of stream 0.
            kind: their masks, "visible" or "amodal". What is fully hidden in a frame is no target
                in either case, since a single frame does not show it.

        Returns:
            list of MaskTarget: one per image, with the objects' numbers in their sample.

        Raises:
            ValueError: if amodal masks are wanted and a sample has none.
        """
        targets = []
        rows = zip(self.labels, self.visible, self._masks_of(kind), self.seeds, strict=True)
        for labels, visible, wanted, seed in rows:
            generator = sample_generator(seed, stream)
            for seen_masks, masks in zip(visible.unbind(1), wanted.unbind(1), strict=True):
                seen = seen_masks.flatten(1).any(1)
                ids = seen.nonzero()[:, 0]
                targets.append(MaskTarget(labels[ids], masks[ids][:, None], generator, ids))
        return targets

    def _masks_of(self, kind: str) -> list[Tensor]:
        if kind == "visible":
            return self.visible
        found = [masks for masks in self.amodal if masks is not None]
        if len(found) < len(self.amodal):
            missing = next(i for i, masks in enumerate(self.amodal) if masks is None)
            raise ValueError(
                "SampleBatch: expected amodal masks of every object, got objects without in video "
                f"{self.video_ids[missing]}; annotate amodal_segmentations, or set "
                "MODEL.BASELINES.MASKS visible"
            )
        return found

    def valid_at(self, map_size: tuple[int, int]) -> Tensor:
        """Mark the cells of a feature map that begin inside each image.

        Args:
            map_size: (h, w) of the feature map.

        Returns:
            Tensor[B, h, w]: bool.
        """
        padded = (self.images.shape[-2], self.images.shape[-1])
        return torch.stack(
            [valid_area(size, padded, map_size, self.images) for size in self.image_sizes]
        )


def collect_batch(
    samples: list[dict[str, Any]],
    normalise: Callable[[Tensor], Tensor],
    multiple: int,
    length: int,
) -> SampleBatch:
    """Pad samples to one size and length.

    Shorter samples (of videos with fewer frames) repeat their last frame.

    Args:
        samples: as the clip mapper makes them.
        normalise: maps frames (Tensor[T, 3, H, W], 0..255) to normalised images on the model's
            device.
        multiple: padded sizes are a multiple of this.
        length: least number of frames, the same in every process.

    Returns:
        SampleBatch: the batch.

    Raises:
        ValueError: if known outputs of the detector are for another padded size than the batch's.
    """
    length = max(length, *(len(s["frames"]) for s in samples))
    sizes = [tuple(s["frames"].shape[-2:]) for s in samples]
    height, width = (-(-max(size[i] for size in sizes) // multiple) * multiple for i in (0, 1))
    images: list[Tensor] = []
    labels: list[Tensor] = []
    visible: list[Tensor] = []
    amodal: list[Tensor | None] = []
    for sample in samples:
        frames = normalise(sample["frames"])
        instances = sample["instances"]
        images.append(_fill(frames, 0, length, height, width))
        labels.append(instances[0].get(fields.GT_CLASSES).to(frames.device))
        masks = {
            name: _fill(
                torch.stack([x.get(name) for x in instances], dim=1).to(frames.device),
                *(1, length, height, width),
            )
            for name in (fields.GT_VISIBLE_MASKS, fields.GT_AMODAL_MASKS)
            if instances[0].has(name)
        }
        visible.append(masks[fields.GT_VISIBLE_MASKS])
        amodal.append(masks.get(fields.GT_AMODAL_MASKS))
    ids = [s.get("video_id") for s in samples]
    seeds = [s.get("sample_seed") for s in samples]
    detected = _join_detected(samples, length, (height, width))
    return SampleBatch(torch.stack(images), sizes, labels, visible, amodal, ids, seeds, detected)


def _join_detected(
    samples: list[dict[str, Any]], length: int, padded: tuple[int, int]
) -> DetectedFrames | None:
    """Put the detector's known outputs behind one another, the last frames repeated."""
    if "detected" not in samples[0]:
        return None
    found = []
    for sample in samples:
        one: DetectedFrames = sample["detected"]
        h, w = one.fine.shape[-2:]
        if (4 * h, 4 * w) != padded:
            raise ValueError(
                f"collect_batch: expected outputs of the detector for frames of {padded} with "
                f"their padding as the batch has, got {(4 * h, 4 * w)} for video "
                f"{sample.get('video_id')}; put videos of one size into a dataset, set "
                "SOLVER.IMS_PER_BATCH to the number of processes or MODEL.MASK_FORMER.CACHE_DIR ''"
            )
        found.append(one.select([min(t, len(one) - 1) for t in range(length)]))
    return DetectedFrames(
        torch.cat([x.queries for x in found], dim=1), torch.cat([x.fine for x in found])
    )


def _fill(x: Tensor, time_axis: int, length: int, height: int, width: int) -> Tensor:
    """Pad [..., h, w] with zeros to the size, and repeat the last frame up to the length."""
    x = F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
    missing = length - x.shape[time_axis]
    if not missing:
        return x
    last = x.narrow(time_axis, x.shape[time_axis] - 1, 1)
    return torch.cat([x, *[last] * missing], dim=time_axis)
