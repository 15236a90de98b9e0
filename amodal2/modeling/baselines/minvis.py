"""MinVIS: a frame detector whose queries are linked from frame to frame (MinVIS, Sec. 3).

Shapes: T frames, N queries, K classes.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from amodal2.modeling.baselines.base import Baseline, baseline_arguments
from amodal2.modeling.mask_classification.linking import LinkState, QueryLinker, track_scores
from amodal2.modeling.mask_classification.targets import SampleBatch
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames


@META_ARCH_REGISTRY.register()
class MinVIS(Baseline):
    """Mask2Former on single frames, in training too; its queries become tracks by their likeness.

    Args:
        decay: weight of a frame's class logits relative to the next frame's, in (0, 1].
        window: frames that run at once in tests.
        **shared: arguments of :class:`Baseline`.

    Raises:
        ValueError: if ``decay`` or ``window`` is out of range.
    """

    @configurable
    def __init__(self, *, decay: float = 1.0, window: int = 30, **shared: Any) -> None:
        if window < 1:
            raise ValueError(
                f"MinVIS: expected MODEL.MINVIS.TEST_WINDOW of at least 1, got {window}"
            )
        super().__init__(**shared | {"clip_len": window})
        self.linker = QueryLinker(decay)
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.MINVIS
        return baseline_arguments(cfg, "MinVIS") | {
            "decay": node.SCORE_DECAY,
            "window": node.TEST_WINDOW,
            "freeze_detector": False,
        }

    @property
    def num_slots(self) -> int:
        """Number N of queries."""
        return self.sem_seg_head.predictor.query_feat.num_embeddings

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        return self._frame_losses(batch)

    def start(self) -> LinkState:
        """Return the state before the first frame of a video."""
        return LinkState()

    @torch.no_grad()
    def forward_clip(
        self, frames: Tensor, state: LinkState, detected: DetectedFrames | None = None
    ) -> tuple[ClipOutput, LinkState]:
        """Process the next window; see :meth:`VideoSegmenter.forward_clip`."""
        self._refuse_known(detected)
        images, sizes = self._prepare_clip(frames)
        with self._test_autocast():
            output, _ = self._detect(images, predict=True)
        last = output.predictions[-1]
        masks = []
        rows = zip(output.queries[-1], last.class_logits, last.mask_logits, strict=True)
        for queries, classes, logits in rows:
            order, state = self.linker(state, queries, classes)
            masks.append(logits[order])
        return self._clip_output(torch.stack(masks, dim=1), sizes), state

    def class_scores(self, state: LinkState) -> Tensor:
        """Classify the tracks by their mean logits; see :func:`track_scores`."""
        return track_scores(state)
