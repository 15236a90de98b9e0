"""Diffusion-VAS as a completer of given visible masks, with both stages.

Letters: K samples, N objects, T frames, (h, w) size of the model's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    DEPTH,
    FRAMES,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule
from amodal2.modeling.diffusion_vas.depth_anything import DepthAnything
from amodal2.modeling.diffusion_vas.inference import (
    CONTENT_CONDITIONS,
    ONE_STAGE_CONDITIONS,
    ClipInputs,
    ClipModel,
    check_conditions,
    seeded,
)
from amodal2.modeling.diffusion_vas.loading import load_pipeline
from amodal2.modeling.diffusion_vas.masks import (
    amodal_masks,
    majority_vote,
    mask_probability,
    painted_masks,
)
from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from amodal2.utils.depth import DepthSource
from amodal2.utils.logging import get_logger, warn_once

if TYPE_CHECKING:
    from amodal2.modeling.diffusion_vas.model import DiffusionVAS
    from amodal2.modeling.diffusion_vas.pipeline import StepCallback

logger = get_logger(__name__)

PROTOCOLS = ("frame", "object", "boxes")
DTYPES = ("", "float32", "float16", "bfloat16")
MEMORY = ("halves", "slices", "offload")
_WHOLE_FRAME = 1 << 20  # a margin beyond any frame
_DEFAULT = {1: ("mask",), 2: ("mask", "depth"), 3: ("mask", "rgb", "depth")}


class DiffusionVASCompleter(Completer):
    """Draws K samples of an object's amodal masks and, with a second model, of its content.

    Attributes:
        on_step (StepCallback | None): called after every denoising step.
    """

    threshold = 0.5

    def __init__(
        self,
        masks: ClipModel,
        content: ClipModel | None = None,
        *,
        rule: CropRule | None = None,
        seeds: Sequence[int] = (23,),
        vote: bool = False,
        depth_model: DepthSource | None = None,
        given_depth: bool = False,
        offload: bool = False,
    ) -> None:
        """Take the models.

        Args:
            masks: stage 1, or a model that paints the whole object at once.
            content: stage 2; None leaves it out.
            rule: how objects are cut out; it must have a size. None takes the whole frame at 256 x
                512.
            seeds: K of them, one per sample.
            vote: return the majority of the samples as the only one.
            depth_model: estimates depth from the cut-out frames, as the official code does.
            given_depth: ask for the depth of the video instead.
            offload: keep on the accelerator only the network that is running.

        Raises:
            ValueError: if the rule has no size, there is no seed, or a second stage follows a
                model that paints already.
        """
        self.rule = rule or crop_rule("frame", (256, 512))
        if self.rule.size is None or not seeds:
            raise ValueError(
                "DiffusionVASCompleter: expected a rule with a size and at least one seed, got "
                f"{self.rule} and {tuple(seeds)}"
            )
        if content is not None and masks.conditions == ONE_STAGE_CONDITIONS:
            raise ValueError(
                "DiffusionVASCompleter: expected no second stage after one that paints, got both"
            )
        # One step without noise is the same for every seed.
        self.seeds = tuple(seeds)[:1] if masks.regression else tuple(seeds)
        self.masks, self.content, self.vote = masks, content, vote
        self.depth_model, self.offload = depth_model, offload
        self.window, self.overlap = masks.window, masks.overlap
        self.on_step: StepCallback | None = None
        self.one_stage = masks.conditions == ONE_STAGE_CONDITIONS
        wants_depth = "depth" in masks.conditions
        shows_frames = bool({"rgb", "content"} & set(masks.conditions)) or content is not None
        needs = {FRAMES} if shows_frames or (wants_depth and depth_model is not None) else set()
        self.needs = frozenset(needs | ({DEPTH} if wants_depth and given_depth else set()))
        if wants_depth and depth_model is None and not given_depth:
            warn_once(logger, "DiffusionVASCompleter: the model knows depth, and gets none")
        self._placed: torch.device | None = None
        self._depth: tuple[Tensor, Tensor] | None = None  # frames, and the depth made of them

    def complete(self, clip: ObjectClip) -> Completion:
        """Sample each object, see :class:`Completer`; masks are already above the threshold."""
        self._place(clip.visible.device)
        found, painted = [], []
        for number in range(clip.visible.shape[0]):
            inputs = ClipInputs(
                visible=clip.visible[number],
                frames=None if clip.frames is None else clip.frames[number],
                depth=self._depth_of(clip, number),
            )
            generators = seeded(self.seeds)
            videos = self.masks.run(inputs, generators, self.on_step)
            if self.one_stage:
                samples = painted_masks(videos, inputs.visible.cpu())
            else:
                samples = amodal_masks(mask_probability(videos), inputs.visible.cpu())
            if self.vote:
                samples, generators = majority_vote(samples)[None], generators[:1]
            found.append(samples)
            if self.one_stage:
                painted.append(videos[: len(samples)])
            elif self.content is not None:
                painted.append(self._paint(inputs, samples, generators))
        content = torch.stack(painted, 1) if painted else None
        return Completion(torch.stack(found, 1).float(), content)

    def _paint(
        self, inputs: ClipInputs, samples: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Run stage 2 on every sample of stage 1; it goes on drawing from the same generators."""
        assert self.content is not None, "the caller has checked that there is a second stage"
        videos = []
        for amodal, generator in zip(samples, generators, strict=True):
            given = replace(inputs, amodal=amodal.to(inputs.visible.device), depth=None)
            videos.append(self.content.run(given, [generator], self.on_step))
        return torch.cat(videos)

    def _depth_of(self, clip: ObjectClip, number: int) -> Tensor | None:
        """Return the depth of an object's cut-outs; all objects share it on whole frames."""
        if self.depth_model is None or "depth" not in self.masks.conditions:
            return None if clip.depth is None else clip.depth[number]
        assert clip.frames is not None, "they are among the needs"
        frames = clip.frames[number]
        if self._depth is None or not torch.equal(self._depth[0], frames):
            images = (frames * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            maps = [self.depth_model(image, t) for t, image in enumerate(images)]
            stacked = torch.stack([torch.from_numpy(depth) for depth in maps])
            self._depth = frames, stacked.to(frames.device)
        return self._depth[1]

    def _place(self, device: torch.device) -> None:
        """Move the networks to the device of the clip, once."""
        if self._placed == device:
            return
        for model in (self.masks, self.content):
            if model is None:
                continue
            if self.offload and device.type != "cpu":
                model.pipeline.enable_model_cpu_offload(device=device)
            else:
                model.pipeline.to(device)
        self._placed = device


def crop_rule(protocol: str, size: tuple[int, int]) -> CropRule:
    """Return the crop rule of an evaluation protocol.

    Args:
        protocol: "frame" shows the whole frame (SAIL-VOS, TAO-Amodal), "object" twice the visible
            box of the object in each frame, inside the frame (MOVi), "boxes" twice a box that is
            given, such as the true amodal one (pseudo ground truth, Table 8).
        size: h and w of the model's input.

    Returns:
        CropRule: for :class:`DiffusionVASCompleter`.

    Raises:
        ValueError: for another protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"crop_rule: expected a protocol of {PROTOCOLS}, got {protocol!r}")
    if protocol == "frame":
        return CropRule(size=size, margin=_WHOLE_FRAME)
    follow = "visible" if protocol == "object" else "boxes"
    return CropRule(size=size, enlarge=2.0, follow=follow, inside=True)


@COMPLETER_REGISTRY.register()
def diffusion_vas(
    *,
    weights: str = "",
    model: DiffusionVAS | None = None,
    content: str = "",
    painter: DiffusionVAS | None = None,
    conditions: Sequence[str] = (),
    samples: int = 1,
    seed: int = 23,
    vote: bool = False,
    depth: str = "none",
    protocol: str | None = None,
    size: tuple[int, int] | None = None,
    window: int | None = None,
    overlap: int | None = None,
    regression: bool = False,
    dtype: str = "",
    memory: Sequence[str] = (),
    **sampler: Any,
) -> Completer:
    """Load the official models, or take one of our own training, as a completer.

    Args:
        weights: folder in the official layout, or name on the hub, of stage 1.
        model: stage 1 of our own training instead; what is not given below is that of its config.
        content: as ``weights``, of stage 2; "" leaves it out.
        painter: stage 2 of our own training instead of ``content``.
        conditions: of ``weights``, see ``inference.check_conditions``; () takes the usual ones for
            the width of its input.
        samples: K, with the seeds ``seed``, ``seed + 1``, ...
        seed: of the first sample.
        vote: return the majority of the samples.
        depth: "none", "given" (by whoever reads the video) or weights of Depth Anything V2, see
            ``DepthAnything.load``.
        protocol: see :func:`crop_rule`; "frame" for ``weights``.
        size: h and w of the model's input; (256, 512) for ``weights``.
        window: frames that the model sees at once; 25 for ``weights``.
        overlap: frames that windows share; 8 for ``weights``.
        regression: one step without noise, for ``weights`` that were trained so.
        dtype: "float32", "float16" or "bfloat16"; "" is that of the weights.
        memory: any of "halves" (of the guidance one after the other), "slices" (of the attention)
            and "offload" (networks that do not run, to the CPU).
        sampler: fields of ``SamplerSettings``, e.g. ``steps``; ``guidance`` may be one number.

    Returns:
        Completer: ready to use.

    Raises:
        MissingDependencyError: if one of the libraries is absent or too old.
        CheckpointError: if a model cannot be read.
        ValueError: if an option is out of range, there is not exactly one of weights and model, or
            ``painter`` is no second stage or was trained for another size.
    """
    _check_options(weights, model, samples, dtype, memory)
    if isinstance(sampler.get("guidance"), int | float):
        sampler["guidance"] = (sampler["guidance"],) * 2
    if "halves" in memory:
        sampler["batch_guidance"] = False
    lengths = {"window": window, "overlap": overlap}
    given: dict[str, Any] = {k: v for k, v in lengths.items() if v is not None}
    precision = getattr(torch, dtype) if dtype else None
    if model is None:
        masks = _load_stage(weights, conditions, sampler, given, precision)
        masks.regression = regression
    else:
        masks = _trained_stage(model, sampler, given, precision)
    own = ("frame", (256, 512)) if model is None else (model.protocol, model.size)
    second = _second_stage(painter, content, size or own[1], sampler, given, precision)
    for one in filter(None, (masks, second)):
        one.pipeline.slice_attention(1 if "slices" in memory else None)
    return DiffusionVASCompleter(
        masks,
        second,
        rule=crop_rule(protocol or own[0], size or own[1]),
        seeds=range(seed, seed + samples),
        vote=vote,
        depth_model=None if depth in ("none", "given") else DepthAnything.load(depth),
        given_depth=depth == "given",
        offload="offload" in memory,
    )


def _check_options(
    weights: str, model: DiffusionVAS | None, samples: int, dtype: str, memory: Sequence[str]
) -> None:
    if dtype not in DTYPES or samples < 1 or not set(memory) <= set(MEMORY):
        raise ValueError(
            f"diffusion_vas: expected a dtype of {DTYPES[1:]}, at least one sample and memory of "
            f"{MEMORY}, got {dtype!r}, {samples} and {memory}"
        )
    if bool(weights) == (model is not None):
        raise ValueError(
            "diffusion_vas: expected weights=FOLDER (official layout, or a name on the hub), or "
            f"config=FILE and weights=FILE of a training, got {'both' if weights else 'neither'}"
        )


def _second_stage(
    painter: DiffusionVAS | None, content: str, size: tuple[int, int], *options: Any
) -> ClipModel | None:
    """Load or take the second stage, if any; the options are those of ``_trained_stage``."""
    if painter is None:
        return _load_stage(content, CONTENT_CONDITIONS, *options) if content else None
    if painter.model.conditions != CONTENT_CONDITIONS:
        raise ValueError(
            f"diffusion_vas: expected a second stage with the conditions {CONTENT_CONDITIONS} "
            f"behind content=FILE, got one with {painter.model.conditions}"
        )
    if painter.size != tuple(size):
        raise ValueError(
            f"diffusion_vas: expected a second stage for {size[0]} x {size[1]} pixels like the "
            f"first, got one for {painter.size[0]} x {painter.size[1]}; set size=(H, W) and "
            "content_opts to the same"
        )
    return _trained_stage(painter, *options)


def _trained_stage(
    model: DiffusionVAS,
    sampler: dict[str, Any],
    lengths: dict[str, Any],
    dtype: torch.dtype | None,
) -> ClipModel:
    """Take a stage of our own training with what was chosen otherwise."""
    found = replace(model.model, settings=replace(model.model.settings, **sampler), **lengths)
    if dtype is not None:
        found.pipeline.to(dtype=dtype)
    return found


def _load_stage(
    source: str,
    names: Sequence[str],
    sampler: dict[str, Any],
    lengths: dict[str, Any],
    dtype: torch.dtype | None,
) -> ClipModel:
    """Load official weights with what they are conditioned on."""
    pipeline = load_pipeline(source, dtype=dtype)
    names = tuple(names) or _DEFAULT.get(pipeline.unet.config.num_conditions, ())
    check_conditions(names)
    return ClipModel(pipeline, names, SamplerSettings(**sampler), **lengths)
