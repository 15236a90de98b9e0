import numpy as np
import pytest

from amodal2.data.synthetic.warp import Rigid, Sway, Swim

SWIM = Swim(amplitude=0.05, wavelength=1.1, frequency=0.1, phase=0.3, swing=0.4, ripple=0.3)
SWAY = Sway(reach=0.05, frequency=0.03, lag=1.5, phase=0.2)


@pytest.mark.parametrize("t", [0, 3, 50])
@pytest.mark.parametrize("deformation", [Rigid(), SWAY, SWIM], ids=["rigid", "sway", "swim"])
def test_deformation_to_material_inverts_to_plane(deformation, t):
    rng = np.random.default_rng(0)
    u = rng.uniform(-0.05, 1.05, 200).astype(np.float32)
    v = rng.uniform(-1.0, 0.6, 200).astype(np.float32)
    back = deformation.to_material(*deformation.to_plane(u, v, t), t)
    np.testing.assert_allclose(back, (u, v), atol=2e-6)


@pytest.mark.parametrize("deformation", [SWAY, SWIM], ids=["sway", "swim"])
def test_deformation_stays_within_its_margin(deformation):
    u, v = np.meshgrid(np.linspace(0, 1, 40), np.linspace(-0.5, 0.5, 40))
    u, v = u.astype(np.float32), v.astype(np.float32)
    still_x = np.float32(0.5) - u if deformation is SWIM else u
    for t in range(12):
        x, y = deformation.to_plane(u, v, t)
        assert np.abs(y - v).max() <= deformation.margin
        # The tail is drawn towards the body, so it never reaches beyond its place at rest.
        outwards = np.abs(x) - np.abs(still_x) if deformation is SWIM else np.abs(x - still_x)
        assert outwards.max() <= deformation.margin


def test_sway_leaves_the_foot_in_place():
    u = np.linspace(-1, 1, 5, dtype=np.float32)
    x, y = SWAY.to_plane(u, np.zeros(5, np.float32), 7)
    np.testing.assert_array_equal(x, u)
    np.testing.assert_array_equal(y, 0)


def test_swim_moves_the_tail_more_than_the_head():
    u = np.array([0.1, 0.95], np.float32)
    lifts = [np.abs(SWIM.to_plane(u, np.zeros(2, np.float32), t)[1]) for t in range(20)]
    head, tail = np.max(lifts, axis=0)
    assert tail > 4 * head
