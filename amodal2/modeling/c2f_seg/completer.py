"""C2F-Seg as a completer of given visible masks."""

from __future__ import annotations

import torch

from amodal2.modeling.c2f_seg.model import C2FSeg
from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    FRAMES,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule

ENLARGE = 2.0
"""Official factor on the visible boxes."""


class C2FSegCompleter(Completer):
    """Runs the image model on every frame, or the video model on whole clips.

    Each frame has a patch of its own around the visible box. The official video data bring the
    frames of a clip to one scale instead. Clips that fill no window are padded with copies of their
    last frame, and longer ones are cut into overlapping windows (of
    :mod:`amodal2.modeling.completion.video`).

    Args:
        model: the system, in evaluation mode.
        seed: of the draws, anew for every call, unless the model is deterministic.
        windows: windows of the video model's attention that it sees at once; they are joined by
            the rolling.
        patches: that the image model sees at once.
    """

    needs = frozenset({FRAMES})

    def __init__(
        self, model: C2FSeg, *, seed: int = 0, windows: int = 2, patches: int = 64
    ) -> None:
        if windows < 1 or patches < 1:
            raise ValueError(
                f"C2FSegCompleter: expected at least 1 window and 1 patch, got {windows} and "
                f"{patches}"
            )
        self.model = model
        self.seed = seed
        self.patches = patches
        side = model.patch_size
        self.rule = CropRule(size=(side, side), enlarge=ENLARGE, follow="visible", inside=True)
        length = model.model.window
        self.window = windows * length if length else patches
        self.overlap = length // 2 if windows > 1 else 0
        self.clips = bool(length)

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the probabilities of one sample, see :class:`Completer`."""
        assert clip.frames is not None, "FRAMES is among the needs"
        objects, frames = clip.visible.shape[:2]
        generator = torch.Generator(clip.visible.device).manual_seed(self.seed)
        images, visible = clip.frames.flatten(0, 1), clip.visible.flatten(0, 1)
        step = frames if self.clips else self.patches
        parts = [
            self.model.complete(
                images[start : start + step],
                visible[start : start + step],
                frames=frames if self.clips else 1,
                generator=generator,
            )
            for start in range(0, len(images), step)
        ]
        return Completion(torch.cat(parts).unflatten(0, (objects, frames))[None])


@COMPLETER_REGISTRY.register()
def c2f_seg(
    model: C2FSeg, *, seed: int = 0, windows: int = 2, patches: int = 64, refine: bool = True
) -> C2FSegCompleter:
    """Make a :class:`C2FSegCompleter`, see there; without ``refine`` it takes the coarse masks."""
    if not refine:
        model.refine = None
    return C2FSegCompleter(model, seed=seed, windows=windows, patches=patches)
