"""Who lies in front of whom."""

import numpy as np
import pytest

from amodal2.modeling.completion.ordering import all_in_front, hull_order, touching
from tests.modeling.completion.clips import rectangle

SIZE = (24, 32)


def test_touching_needs_a_common_side():
    masks = np.stack(
        [
            rectangle(SIZE, 4, 4, 4, 4),
            rectangle(SIZE, 8, 4, 4, 4),  # below the first
            rectangle(SIZE, 12, 8, 4, 4),  # at a corner of the second
        ]
    )
    expected = np.zeros((3, 3), bool)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(touching(masks), expected)


def test_hull_order_a_bar_across_a_block_is_in_front():
    bar = rectangle(SIZE, 0, 10, 24, 3)
    block = rectangle(SIZE, 8, 4, 8, 16) & ~bar
    apart = rectangle(SIZE, 0, 28, 3, 3)
    order = hull_order(np.stack([block, bar, apart]))
    assert np.argwhere(order).tolist() == [[0, 1]]


@pytest.mark.parametrize("count", [0, 1])
def test_hull_order_few_objects(count):
    assert hull_order(np.ones((count, 4, 4), bool)).shape == (count, count)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0, 1), (1, 2)], [(0, 1), (0, 2), (1, 2)]),
        ([(2, 0), (0, 1)], [(0, 1), (2, 0), (2, 1)]),
        ([(0, 1), (1, 0)], [(0, 1), (1, 0)]),
    ],
)
def test_all_in_front_follows_chains(pairs, expected):
    order = np.zeros((3, 3), bool)
    for one, other in pairs:
        order[one, other] = True
    assert [tuple(pair) for pair in np.argwhere(all_in_front(order)).tolist()] == expected
