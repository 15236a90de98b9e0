"""Unified video label assignment."""

import pytest
import torch

from amodal2.modeling.mask_classification.label_assignment import LabelAssignment

_COST = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])  # both objects like slot 0 best


def cheapest(new: torch.Tensor, taken: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each new object in turn its cheapest free slot."""
    slots, objects, free = [], [], ~taken
    for number in new.nonzero()[:, 0].tolist():
        if free.any():
            slot = int(_COST[:, number].masked_fill(~free, 9.0).argmin())
            free[slot] = False
            slots.append(slot)
            objects.append(number)
    return torch.tensor(slots, dtype=torch.int64), torch.tensor(objects, dtype=torch.int64)


def run(clips: list[list[bool]], slots: int = 3, **options: bool) -> list[dict[int, int]]:
    assignment = LabelAssignment(slots, len(clips[0]), torch.device("cpu"), **options)
    found = []
    for present in clips:
        pairs = assignment.update(torch.tensor(present), cheapest)
        found.append(dict(zip(pairs[1].tolist(), pairs[0].tolist(), strict=True)))
    return found


def test_update_object_keeps_its_slot_and_is_listed_while_present() -> None:
    assert run([[True, False], [False, False], [True, True]]) == [{0: 0}, {}, {0: 0, 1: 1}]


def test_update_newcomer_does_not_take_the_slot_of_a_hidden_object() -> None:
    clips = [[True, False], [False, True], [True, True]]
    assert run(clips) == [{0: 0}, {1: 1}, {0: 0, 1: 1}]
    stolen = [{0: 0}, {1: 0}, {0: 0, 1: 0}]
    assert run(clips, exclude_hidden=False) == stolen


@pytest.mark.parametrize("exclude_hidden", [True, False])
def test_update_no_slot_left_leaves_the_object_out_for_good(exclude_hidden: bool) -> None:
    clips = [[True, False], [True, True], [False, True]]
    assert run(clips, slots=1, exclude_hidden=exclude_hidden) == [{0: 0}, {0: 0}, {}]


def test_pairs_lists_all_objects_that_were_given_a_slot() -> None:
    assignment = LabelAssignment(3, 3, torch.device("cpu"))
    for present in ([False, True, False], [True, False, False]):
        assignment.update(
            torch.tensor(present),
            lambda new, taken: (taken.logical_not().nonzero()[:1, 0], new.nonzero()[:, 0]),
        )
    slots, objects = assignment.pairs()
    assert (slots.tolist(), objects.tolist()) == ([1, 0], [0, 1])
