"""Mask transfer as a completer of given visible masks in videos."""

from __future__ import annotations

import torch

from amodal2.modeling.completion.base import (
    COMPLETER_REGISTRY,
    FRAMES,
    Completer,
    Completion,
    ObjectClip,
)
from amodal2.modeling.completion.crops import CropRule
from amodal2.modeling.mask_transfer.inference import MaskTransferrer
from amodal2.modeling.mask_transfer.model import MaskTransfer
from amodal2.modeling.mask_transfer.queries import Scene
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from amodal2.modeling.mask_transfer.tracks import complete_track, without_classes


class MaskTransferCompleter(Completer):
    """Transfers masks of references to the objects of a video.

    Args:
        model: the system, in evaluation mode; its config has the switches, such as ``TRACK_VOTE``.
        bank: file of the references; "" takes that of the config.
        class_id: contiguous class of the bank that the objects have; None lets all references vote.
        window: frames that share a reference.

    Raises:
        FileNotFoundError: if there is no such bank.
        ValueError: if the bank is of another network or has no references of the class.
    """

    rule = CropRule(enlarge=2.0, margin=8)
    needs = frozenset({FRAMES})

    def __init__(
        self,
        model: MaskTransfer,
        *,
        bank: str = "",
        class_id: int | None = None,
        window: int = 64,
    ) -> None:
        references = ReferenceBank.load(bank or model.bank)
        if class_id is not None and not (references.classes == class_id).any():
            raise ValueError(
                f"MaskTransferCompleter: expected a class of {references.classes.unique().tolist()}"
                f", got {class_id}, which has no references in {bank or model.bank}"
            )
        self.model, self.window = model, window
        self.transferrer = MaskTransferrer(model.network, references, model.options)
        if class_id is None:
            self.transferrer = without_classes(self.transferrer)
        self.class_id = class_id or 0

    def complete(self, clip: ObjectClip) -> Completion:
        """Return the transferred masks, see :class:`Completer`."""
        assert clip.frames is not None, "FRAMES is among the needs"
        found = []
        for frames, visible, others in zip(clip.frames, clip.visible, clip.others, strict=True):
            pictures = self.model.normalize_rgb(frames)
            scenes = [Scene(*parts) for parts in zip(pictures, visible, others, strict=True)]
            found.append(torch.stack(complete_track(self.transferrer, scenes, self.class_id)))
        return Completion(torch.stack(found).float()[None])


@COMPLETER_REGISTRY.register()
def mask_transfer(
    model: MaskTransfer, *, bank: str = "", class_id: int | None = None, window: int = 64
) -> MaskTransferCompleter:
    """Make a :class:`MaskTransferCompleter`, see there."""
    return MaskTransferCompleter(model, bank=bank, class_id=class_id, window=window)
