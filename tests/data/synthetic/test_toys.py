import numpy as np
import pytest

from amodal2.data.synthetic.solids import cast_parts
from amodal2.data.synthetic.toys import CATEGORIES, TOYS


def test_toys_are_of_at_least_eight_kinds():
    assert len(set(CATEGORIES.values())) == len(TOYS) >= 8


@pytest.mark.parametrize("kind", TOYS, ids=lambda kind: kind.name)
def test_toys_differ_and_are_seen_from_every_side(kind):
    rng = np.random.default_rng(5)
    first, second = kind.build(rng), kind.build(rng)
    assert max(p.reach for p in first) != max(p.reach for p in second)
    for side in np.concatenate([np.eye(3), -np.eye(3)]):
        aim = rng.uniform(-0.7, 0.7, (3, 2000))
        found, _, _ = cast_parts(first, 4 * side, aim - 4 * side[:, None])
        assert 20 < np.isfinite(found).sum() < 1900
        reach = max(part.reach for part in first)
        points = 4 * side[:, None] + found * (aim - 4 * side[:, None])
        hit = np.isfinite(found)
        assert np.sqrt((points[:, hit] ** 2).sum(axis=0)).max() <= reach + 1e-9
