"""Memory that a training step of A2VIS needs, found without running it.

The step runs on fake tensors, which have shapes and no numbers: forward pass, losses, backward
pass and recomputation as they are, with the bytes of every storage counted from its birth to its
end. The peak is what the tensors of a step need at once. Not in it are what a GPU holds besides
(context and libraries, about 0.5 GB), workspaces inside of operators and the gaps that an allocator
leaves; a fifth is added for the latter two.
"""

from __future__ import annotations

import argparse
import contextlib
import weakref
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.config import get_cfg
from amodal2.engine import set_execution
from amodal2.modeling.a2vis.criterion import VideoCriterion
from amodal2.modeling.mask_classification.criterion import MaskTarget, Pairs, SetCriterion
from amodal2.modeling.mask_classification.points import sample_generator
from amodal2.modeling.mask_classification.targets import SampleBatch

MARGIN, CONTEXT_BYTES = 1.2, 0.5e9


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known[storage] = size
        weakref.finalize(storage, self._remove, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _remove(self, size: int) -> None:
        self.now -= size


def estimate(cfg: CfgNode, size: tuple[int, int], objects: int, processes: int) -> dict[str, Any]:
    """Find the memory of a training step of one process.

    Args:
        cfg: of an A2VIS without AUX_CLIP_LOSS and CLIP_CLASS_WEIGHT, whose losses depend on what a
            fake tensor does not have.
        size: height and width of the frames in pixels.
        objects: per sample, visible in all frames.
        processes: that share the batch.

    Returns:
        dict: "parameters", "trained" (numbers), "samples" at once, "step_gb" (peak of tensors, with
        weights, gradients and the optimiser's two moments) and "gpu_gb" (with what the module's
        docstring says).
    """
    parts = cfg.SOLVER.ACCUMULATE
    samples = cfg.SOLVER.IMS_PER_BATCH // (parts * processes)
    with _fake_run() as live:
        # Detectron2's build_model would move the parameters, which fake tensors refuse.
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).train()
        set_execution(cfg, model)
        trained = [p for p in model.parameters() if p.requires_grad]
        if parts > 1:  # the gradients of earlier parts wait
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
        batch = _fake_batch(cfg, samples, size, objects)
        with torch.autocast("cpu", torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED):
            frame_level = model.train_level == "frame"
            losses = model._frame_losses(batch) if frame_level else model._video_losses(batch)
            total = sum(losses.values())
        total.backward()
        peak = live.peak + 8 * sum(p.numel() for p in trained)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "samples": samples,
        "step_gb": peak / 1e9,
        "gpu_gb": (MARGIN * peak + CONTEXT_BYTES) / 1e9,
    }


@contextlib.contextmanager
def _fake_run() -> Iterator[LiveBytes]:
    """Let everything inside be fake, with the matching left out and the ways of a GPU taken."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        live = stack.enter_context(LiveBytes())
        stack.enter_context(patch("amodal2.layers.attention.HAS_C", False))
        stack.enter_context(patch.object(SampleBatch, "frame_targets", _all_frames))
        stack.enter_context(patch("torch.nn.init.trunc_normal_"))  # looks at the numbers
        stack.enter_context(patch.object(SetCriterion, "match", _first_slots))
        stack.enter_context(patch.object(VideoCriterion, "_assign", _first_slots))
        yield live


def _first_slots(criterion: nn.Module, output: Any, number: Any, target: Any) -> Pairs:
    indices = torch.arange(len(target.labels))
    return indices, indices


def _all_frames(batch: SampleBatch, stream: int = 0, kind: str = "visible") -> list[MaskTarget]:
    return [
        MaskTarget(labels, masks[:, t : t + 1], sample_generator(0))
        for labels, masks in zip(batch.labels, batch.visible, strict=True)
        for t in range(masks.shape[1])
    ]


def _fake_batch(cfg: CfgNode, samples: int, size: tuple[int, int], objects: int) -> SampleBatch:
    multiple = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
    height, width = (-(-x // multiple) * multiple for x in size)
    frames = cfg.INPUT.AMODAL.CLIP_LEN * cfg.INPUT.AMODAL.NUM_CLIPS

    def masks() -> list[Tensor]:
        shape = (objects, frames, height, width)
        return [torch.zeros(shape, dtype=torch.bool) for _ in range(samples)]

    return SampleBatch(
        images=torch.zeros(samples, frames, 3, height, width),
        image_sizes=[size] * samples,
        labels=[torch.zeros(objects, dtype=torch.int64) for _ in range(samples)],
        visible=masks(),
        amodal=list(masks()),
        video_ids=list(range(samples)),
        seeds=[0] * samples,
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Estimate what the command line asks for, print a line and return the numbers."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list([*args.opts, "MODEL.DEVICE", "cpu"])
    found = estimate(cfg, args.size, args.objects, args.processes)
    height, width = args.size
    print(
        f"{args.config_file}, {args.processes} x {found['samples']} of {cfg.SOLVER.IMS_PER_BATCH} "
        f"samples of {height}x{width}: {found['step_gb']:.2f} GB of tensors, about "
        f"{found['gpu_gb']:.1f} GB on a GPU"
    )
    return {"config": args.config_file, "size": [height, width], **found}
