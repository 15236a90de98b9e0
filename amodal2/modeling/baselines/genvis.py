"""GenVIS: clip queries that go on from clip to clip (GenVIS, Sec. 3).

Shapes: L decoder layers that act as extra batch, B videos, T frames, cQ clip queries, C channels, K
classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from amodal2.modeling.baselines.base import baseline_arguments
from amodal2.modeling.baselines.vita import AssociatingModel, build_clip_criterion
from amodal2.modeling.mask_classification.clip_criterion import ClipCriterion
from amodal2.modeling.mask_classification.clip_memory import ClipMemory, RecurrentAssociation
from amodal2.modeling.mask_classification.criterion import MaskTarget
from amodal2.modeling.mask_classification.label_assignment import LabelAssignment
from amodal2.modeling.mask_classification.object_association import association_arguments
from amodal2.modeling.mask_classification.targets import SampleBatch
from amodal2.structures.clip import ClipOutput
from amodal2.structures.detector_cache import DetectedFrames


@dataclass
class GenVISState:
    """What GenVIS carries from clip to clip.

    Attributes:
        memory: of the clip queries; None before the first clip.
        scores (Tensor[cQ, K] or None): the best class probabilities of the clips so far.
    """

    memory: ClipMemory | None = None
    scores: Tensor | None = None


@META_ARCH_REGISTRY.register()
class GenVIS(AssociatingModel):
    """Generalised video instance segmentation: semi-online, online with one frame per clip.

    Args:
        vita_module: associates frame queries, with a memory.
        genvis_criterion: losses of the clip queries.
        exclude_hidden: in training a slot belongs to one object for the whole sample; False frees
            the slots of hidden objects, as the official code does.
        **shared: arguments of :class:`AssociatingModel`.
    """

    vita_module: RecurrentAssociation

    @configurable
    def __init__(
        self, *, genvis_criterion: ClipCriterion, exclude_hidden: bool = True, **shared: Any
    ) -> None:
        super().__init__(similarity=genvis_criterion.similarity_weight > 0, **shared)
        self.genvis_criterion, self.exclude_hidden = genvis_criterion, exclude_hidden
        self._fix_unused_parameters()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a configuration into constructor arguments."""
        node = cfg.MODEL.GENVIS
        return baseline_arguments(cfg, "GenVIS") | {
            "vita_module": RecurrentAssociation(
                memory_cap=node.MEMORY_CAP, **association_arguments(cfg, heads=True)
            ),
            "genvis_criterion": build_clip_criterion(cfg),
            "last_layers": cfg.MODEL.VITA.LAST_LAYER_NUM,
            "exclude_hidden": node.EXCLUDE_HIDDEN,
        }

    def _video_losses(self, batch: SampleBatch) -> dict[str, Tensor]:
        found = self._detect_batch(batch)
        targets = batch.mask_targets(self.masks)
        assignments = self._assignments(targets, found.queries.shape[0])
        losses = dict(found.losses)
        memory: ClipMemory | None = None
        # Split rather than sliced: one gradient of the whole, not one for each time a clip is read.
        for number, features in enumerate(found.features.split(self.clip_len, dim=1)):
            clip = slice(number * self.clip_len, (number + 1) * self.clip_len)
            queries, memory = self.vita_module.next_clip(
                found.queries[:, :, clip], memory, similarity=self.similarity
            )
            clip_targets = [MaskTarget(t.labels, t.masks[:, clip], t.generator) for t in targets]
            pairs = [[frames[clip] for frames in videos] for videos in found.pairs]
            one = self.genvis_criterion.clip_losses(
                queries, features, clip_targets, pairs, assignments
            )
            for name, value in one.items():
                losses[f"{name.replace('loss_', 'loss_genvis_', 1)}_clip{number}"] = value
        return losses

    def _assignments(self, targets: list[MaskTarget], layers: int) -> list[list[LabelAssignment]]:
        """One assignment per object decoder layer, frame decoder layer and video."""
        decoder_layers = len(self.vita_module.transformer_cross_attention_layers)
        return [
            [
                LabelAssignment(
                    self.num_slots,
                    len(target.labels),
                    target.labels.device,
                    exclude_hidden=self.exclude_hidden,
                )
                for target in targets * layers
            ]
            for _ in range(self.genvis_criterion.supervised_layers(decoder_layers))
        ]

    def start(self) -> GenVISState:
        """Return the state before the first clip of a video."""
        return GenVISState()

    @torch.no_grad()
    def forward_clip(
        self, frames: Tensor, state: GenVISState, detected: DetectedFrames | None = None
    ) -> tuple[ClipOutput, GenVISState]:
        """Process the next clip; see :meth:`VideoSegmenter.forward_clip`."""
        images, sizes = self._prepare_clip(frames)
        with self._test_autocast():
            output, fine = self._detect(images, predict=False, detected=detected)
            features = self.vita_module.mask_features(fine)
            queries, memory = self.vita_module.next_clip(
                output.queries[-1][None, None], state.memory, similarity=False
            )
            assert queries.class_logits is not None, "the association has its heads"
            assert queries.mask_embed is not None, "the association has its heads"
            logits = torch.einsum("nc,tchw->nthw", queries.mask_embed[-1, 0, 0], features)
        scores = queries.class_logits[-1, 0, 0].float().softmax(-1)[:, :-1]
        if state.scores is not None:
            scores = torch.maximum(scores, state.scores)
        return self._clip_output(logits, sizes), GenVISState(memory, scores)

    def class_scores(self, state: GenVISState) -> Tensor:
        """Return the best class probabilities of the clips so far.

        Args:
            state: after at least one clip.

        Returns:
            Tensor[cQ, K]: probabilities without "no object".

        Raises:
            ValueError: if no clip was processed.
        """
        if state.scores is None:
            raise ValueError(
                "class_scores: expected the state after at least one clip, got the first one"
            )
        return state.scores

    def _unused_parameters(self) -> Iterator[nn.Parameter]:
        yield from super()._unused_parameters()
        if self.sample_len <= self.clip_len:
            yield from self.vita_module.pre_query_embed_k.parameters()
            yield from self.vita_module.pre_memory_embed_k.parameters()
            yield from self.vita_module.pre_memory_embed_v.parameters()
