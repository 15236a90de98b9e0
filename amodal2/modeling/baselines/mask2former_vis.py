"""Mask2Former-VIS: queries that see all frames of a clip (Mask2Former for video, Sec. 2).

Shapes: T frames, N queries, C channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from amodal2.modeling.baselines.base import Baseline, Sizes, baseline_arguments
from amodal2.modeling.mask_classification.linking import LinkState, QueryLinker, track_scores
from amodal2.modeling.mask_classification.targets import SampleBatch
from amodal2.modeling.mask_classification.video_decoder import FrameKeys, VideoMaskFormerHead
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames
from amodal2.structures.feature_file import FeatureFile


@dataclass
class WholeVideo:
    """Frames that wait for the end of the video.

    Attributes:
        keys: what the decoder reads of each clip, in memory.
        sizes: input and image size of each clip.
        features: mask features of all clips.
    """

    keys: list[FrameKeys] = field(default_factory=list)
    sizes: list[Sizes] = field(default_factory=list)
    features: FeatureFile = field(default_factory=FeatureFile)


@dataclass
class Mask2FormerVISState:
    """What Mask2Former-VIS keeps of a video.

    Attributes:
        links: tracks of the windows so far, or of the whole video at its end.
        waiting: the frames, where the whole video is one window; None once they were used.
    """

    links: LinkState
    waiting: WholeVideo | None


@META_ARCH_REGISTRY.register()
class Mask2FormerVIS(Baseline):
    """Mask2Former with keys of all frames, a 3-D position code and one class per query.

    Over a whole video the decoder needs its keys in memory, about 42 bytes per input pixel with 256
    channels in float32; the mask features wait in a temporary file.

    Args:
        window: frames over which the queries attend in tests; 0 takes the whole video.
        **shared: arguments of :class:`Baseline`; ``clip_len`` frames pass the pixel decoder at once
            where the whole video is taken.

    Raises:
        ValueError: if ``window`` is negative.
    """

    sem_seg_head: VideoMaskFormerHead

    @configurable
    def __init__(self, *, window: int = 0, **shared: Any) -> None:
        if window < 0:
            raise ValueError(
                "Mask2FormerVIS: expected MODEL.MASK2FORMER_VIS.TEST_WINDOW of at least 0, got "
                f"{window}"
            )
        super().__init__(**shared | {"clip_len": window or shared["clip_len"]})
        self.window, self.linker = window, QueryLinker()
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        return baseline_arguments(cfg, "Mask2FormerVIS", VideoMaskFormerHead) | {
            "window": cfg.MODEL.MASK2FORMER_VIS.TEST_WINDOW,
            "freeze_detector": False,
        }

    @property
    def num_slots(self) -> int:
        """Number N of queries."""
        return self.sem_seg_head.predictor.query_feat.num_embeddings

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        frames = batch.images.shape[1]
        output, _ = self._detect(
            batch.images.flatten(0, 1), predict=True, detected=batch.detected, frames=frames
        )
        return self.criterion(output.predictions, batch.mask_targets(self.masks))

    def start(self) -> Mask2FormerVISState:
        """Return the state before the first clip of a video."""
        return Mask2FormerVISState(LinkState(), None if self.window else WholeVideo())

    @torch.no_grad()
    def forward_clip(
        self, frames: Tensor, state: Mask2FormerVISState, detected: DetectedFrames | None = None
    ) -> tuple[ClipOutput | None, Mask2FormerVISState]:
        """Process the next clip; see :meth:`VideoSegmenter.forward_clip`."""
        self._refuse_known(detected)
        images, sizes = self._prepare_clip(frames)
        if state.waiting is not None:
            self._keep(images, sizes, state.waiting)
            return None, state
        with self._test_autocast():
            output, _ = self._detect(images, predict=True, frames=len(images))
        last = output.predictions[-1]
        order, links = self.linker(
            state.links, output.queries[-1, 0], last.class_logits[0], frames=len(images)
        )
        clip = self._clip_output(last.mask_logits[0][order], sizes)
        return clip, Mask2FormerVISState(links, None)

    def _keep(self, images: Tensor, sizes: Sizes, waiting: WholeVideo) -> None:
        with self._test_autocast():
            head = self.sem_seg_head
            mask_features, _, levels = head.pixel_decoder(self.backbone(images))
            keys = head.predictor.frame_keys([x[None] for x in levels], mask_features[None])
        waiting.keys.append(keys)
        waiting.sizes.append(sizes)
        waiting.features.append(mask_features)

    @torch.no_grad()
    def finish_clips(self, state: Mask2FormerVISState) -> Iterator[ClipOutput]:
        """Yield the masks of the whole video; see :meth:`VideoSegmenter.finish_clips`."""
        waiting, state.waiting = state.waiting, None
        if waiting is None or not waiting.keys:
            return
        predictor = self.sem_seg_head.predictor
        with self._test_autocast():
            queries = predictor.decode(predictor.join(waiting.keys), None).queries[-1, 0]
            classes, embeddings = predictor.class_embed(queries), predictor.mask_embed(queries)
        _, state.links = self.linker(LinkState(), queries, classes)
        for features, sizes in zip(waiting.features.read(), waiting.sizes, strict=True):
            logits = torch.einsum("nc,tchw->nthw", embeddings.float(), features.float())
            yield self._clip_output(logits, sizes)
        waiting.features.close()

    def class_scores(self, state: Mask2FormerVISState) -> Tensor:
        """Classify the queries; see :func:`track_scores`.

        Where the whole video is one window, the classes are known at its end.
        """
        return track_scores(state.links)
