"""Unified video label assignment: an object keeps the slot of its first clip (GenVIS, Sec. 3.2).

Shapes: M objects of a video, Q slots.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Match = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps the chosen objects (bool [M]) and the blocked slots (bool [Q]) to slots and objects."""


class LabelAssignment:
    """The slots of the objects of one video, fixed clip after clip.

    Args:
        num_slots: Q.
        num_objects: M.
        device: where the results lie.
        exclude_hidden: a slot is never given away again. False follows the official code, where
            the slots of objects that are hidden in a clip are free for newcomers.
    """

    def __init__(
        self, num_slots: int, num_objects: int, device: torch.device, *, exclude_hidden: bool = True
    ) -> None:
        self._num_slots, self._exclude_hidden = num_slots, exclude_hidden
        self._slots = torch.full((num_objects,), -1, device=device)  # -1: no slot
        self._seen = torch.zeros(num_objects, dtype=torch.bool, device=device)

    def update(self, present: Tensor, match: Match) -> tuple[Tensor, Tensor]:
        """Give slots to the objects that come into view in the next clip.

        Objects for which no slot is left stay without one.

        Args:
            present (Tensor[M]): bool, objects with a mask in the clip.
            match: assigns the new objects.

        Returns:
            slots and numbers of the objects that are present and have a slot (int64).
        """
        new = present & ~self._seen
        keeping = self._seen if self._exclude_hidden else self._seen & present
        owned = self._slots[keeping & (self._slots >= 0)]
        taken = torch.zeros(self._num_slots, dtype=torch.bool, device=self._slots.device)
        taken[owned] = True
        slots, objects = match(new, taken)
        self._slots[objects.to(self._slots.device)] = slots.to(self._slots.device)
        self._seen = self._seen | present
        return self._pairs(present)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return slots and numbers of all objects with a slot (int64)."""
        return self._pairs(self._seen)

    def _pairs(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        objects = (wanted & (self._slots >= 0)).nonzero()[:, 0]
        return self._slots[objects], objects
