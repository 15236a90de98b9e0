"""Both stages on clips of any length: which conditions a model takes, and running it.

Letters: K samples, T frames, H W size of the model's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amodal2.modeling.diffusion_vas.conditions import (
    content_condition,
    depth_condition,
    frame_condition,
    mask_condition,
)
from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from amodal2.modeling.diffusion_vas.windows import pad_frames, run_windows

if TYPE_CHECKING:
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline, StepCallback

MASK_CONDITIONS = ("mask", "rgb", "depth")
CONTENT_CONDITIONS = ("content", "amodal")
ONE_STAGE_CONDITIONS = ("content", "mask")
"""Of a model that paints the whole object at once; its mask is what is not white (Table 7)."""


@dataclass
class ClipInputs:
    """One object through T frames, at the size of the model's input.

    Attributes:
        visible (Tensor[T, H, W]): bool.
        frames (Tensor[T, 3, H, W] | None): RGB, uint8 or float in [0, 1].
        depth (Tensor[T, H, W] | None): relative inverse depth, larger is nearer.
        amodal (Tensor[T, H, W] | None): bool.
    """

    visible: Tensor
    frames: Tensor | None = None
    depth: Tensor | None = None
    amodal: Tensor | None = None

    def window(self, start: int, stop: int) -> ClipInputs:
        """Return frames [start, stop)."""
        parts = (self.visible, self.frames, self.depth, self.amodal)
        return ClipInputs(*(None if part is None else part[start:stop] for part in parts))  # type: ignore[arg-type]

    def padded(self, window: int) -> ClipInputs:
        """Repeat the last frame until there are ``window`` frames."""
        parts = (self.visible, self.frames, self.depth, self.amodal)
        return ClipInputs(*(None if part is None else pad_frames(part, window) for part in parts))  # type: ignore[arg-type]


def check_conditions(names: Sequence[str]) -> None:
    """Check the names of a model's conditions.

    Args:
        names: "mask", then any of "rgb" and "depth" (stage 1), "content" and "amodal" (stage 2), or
            "content" and "mask" (both in one).

    Raises:
        ValueError: if they are others.
    """
    extra = list(names[1:])
    first_stage = names[:1] == ("mask",) and len(set(extra)) == len(extra)
    if tuple(names) not in (CONTENT_CONDITIONS, ONE_STAGE_CONDITIONS) and not (
        first_stage and set(extra) <= set(MASK_CONDITIONS[1:])
    ):
        raise ValueError(
            "check_conditions: expected 'mask' with any of 'rgb' and 'depth', "
            f"{CONTENT_CONDITIONS} or {ONE_STAGE_CONDITIONS}, got {tuple(names)}"
        )


def make_conditions(names: Sequence[str], clip: ClipInputs) -> list[Tensor]:
    """Build the condition videos of a model.

    Args:
        names: see :func:`check_conditions`.
        clip: the inputs; without depth, that condition is neutral.

    Returns:
        list[Tensor[T, 3, H, W]]: float32 in [-1, 1], in the order of the names.

    Raises:
        ValueError: if frames or amodal masks are needed and absent.
    """
    return [_condition(name, clip) for name in names]


def _condition(name: str, clip: ClipInputs) -> Tensor:
    if name == "mask":
        return mask_condition(clip.visible)
    if name == "depth":
        depth = torch.zeros_like(clip.visible) if clip.depth is None else clip.depth
        return depth_condition(depth)
    if name == "amodal" and clip.amodal is not None:
        return mask_condition(clip.amodal)
    if name in ("rgb", "content") and clip.frames is not None:
        if name == "rgb":
            return frame_condition(clip.frames)
        return content_condition(clip.frames, clip.visible)
    missing = "amodal masks" if name == "amodal" else "frames"
    raise ValueError(f"make_conditions: expected {missing} for the condition {name!r}, got none")


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed, so that results do not depend on the device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@dataclass
class ClipModel:
    """A pipeline with what it needs to know to run on clips.

    Attributes:
        pipeline (DiffusionVASPipeline): of one stage.
        conditions (tuple[str, ...]): see :func:`check_conditions`.
        settings (SamplerSettings): of the sampler.
        window (int): frames that the model sees at once.
        overlap (int): frames that neighbouring windows share.
        regression (bool): one step without noise instead of sampling (the 3D-UNet baseline).
    """

    pipeline: DiffusionVASPipeline
    conditions: tuple[str, ...] = ("mask", "depth")
    settings: SamplerSettings = field(default_factory=SamplerSettings)
    window: int = 25
    overlap: int = 8
    regression: bool = False

    def run(
        self,
        clip: ClipInputs,
        generators: Sequence[torch.Generator],
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Generate K videos of an object.

        A clip of exactly ``window`` frames gives the official result. Longer ones are cut into
        windows, each with its own depth range, which go on drawing from the same generators; where
        they overlap the videos are averaged. Shorter ones repeat their last frame.

        Args:
            clip: T frames.
            generators: K of them, see :func:`seeded`; one with ``regression``, which draws nothing.
            on_step: called after every denoising step of every window.

        Returns:
            Tensor[K, T, 3, H, W]: float32 in [0, 1] on the CPU.

        Raises:
            ValueError: if the inputs do not fit the model.
        """

        def run_window(start: int, stop: int) -> Tensor:
            part = clip.window(start, stop).padded(self.window)
            videos = make_conditions(self.conditions, part)
            if self.regression:
                found = self.pipeline.regress(videos, self.settings)
            else:
                found = self.pipeline(videos, generators, self.settings, on_step)
            return found[:, : stop - start]

        return run_windows(run_window, len(clip.visible), self.window, self.overlap)
