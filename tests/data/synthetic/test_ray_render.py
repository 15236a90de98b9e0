import cv2
import numpy as np
import pytest

from amodal2.data.synthetic import ray_render
from amodal2.data.synthetic.ray_render import FAR, render_playroom
from amodal2.data.synthetic.solids import ball, block
from tests.data.synthetic.playrooms import make_playroom, rotation

SIZE = 64
FOCAL = 1.15 * SIZE


def render(scene, t=0, **options):
    return render_playroom(scene, t, SIZE, SIZE, **options)


def test_ball_alone_has_the_mask_and_depth_of_geometry():
    frame = render(make_playroom([(ball((0, 0, 0), 0.8),)], [[[0.3, 0.0, 1.0]]]))
    y, x = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / FOCAL
    ray = np.stack([x, np.ones_like(x), -y]) / np.sqrt(1 + x * x + y * y)
    centre = np.array([0.3, 5.0, 0.5])
    along = np.tensordot(centre, ray, 1)
    expected = centre @ centre - along**2 < 0.8**2
    np.testing.assert_array_equal(frame.amodal[0], expected)
    np.testing.assert_array_equal(frame.visible[0], expected)
    half = np.sqrt(np.maximum(0.8**2 - centre @ centre + along**2, 0))
    np.testing.assert_allclose(
        frame.depth[expected], ((along - half) * ray[1])[expected], rtol=1e-4
    )
    below = frame.depth[-1]
    np.testing.assert_allclose(below, 0.5 / y[-1], rtol=1e-5)
    assert (frame.depth[:20][~expected[:20]] == FAR).all()


def test_nearer_toy_hides_the_farther_one_whose_amodal_mask_stays():
    bodies = [(ball((0, 0, 0), 0.5),), (block((0, 0, 0), (0.6, 0.1, 0.4)),)]
    far_alone = render(make_playroom(bodies[:1], [[[0.0, 1.0, 0.6]]]))
    frame = render(make_playroom(bodies, [[[0.0, 1.0, 0.6], [0.7, -1.0, 0.5]]]))
    assert frame.order == [1, 0]
    np.testing.assert_array_equal(frame.amodal[0], far_alone.amodal[0])
    np.testing.assert_array_equal(frame.visible[1], frame.amodal[1])
    np.testing.assert_array_equal(frame.visible[0], frame.amodal[0] & ~frame.amodal[1])
    assert 0 < frame.visible[0].sum() < frame.amodal[0].sum()


def test_order_puts_first_what_hides_and_not_what_comes_closer_to_the_camera():
    slab = (block((0, 0, 0), (1.2, 2.0, 0.05)),)
    scene = make_playroom(
        [slab, (ball((0, 0, 0), 0.4),)],
        [[[0.0, 0.0, 0.1], [0.0, 1.0, 0.6]]],
        places=[(0.0, -5.0, 2.5)],
    )
    frame = render(scene)
    assert (frame.depth[frame.visible[0]]).min() < (frame.depth[frame.visible[1]]).min()
    assert frame.order == [1, 0]
    assert (frame.amodal[0] & ~frame.visible[0]).any()


def test_toy_out_of_the_picture_has_no_masks():
    frame = render(make_playroom([(ball((0, 0, 0), 0.5),)], [[[30.0, 0.0, 1.0]]]))
    assert not frame.amodal.any()
    assert frame.order == [0]


@pytest.fixture(scope="module")
def moving():
    """A ball and a block that move and turn, before a camera that moves."""
    turns = [[rotation(2, 0.2 * t), rotation(0, 0.15 * t)] for t in range(2)]
    scene = make_playroom(
        [(ball((0, 0, 0), (0.5, 0.3, 0.4)),), (block((0, 0, 0), (0.5, 0.3, 0.4)),)],
        [[[-0.6, 0.0, 0.7], [0.5, 0.4, 0.6]], [[-0.4, 0.1, 0.6], [0.4, 0.2, 0.75]]],
        turns,
        places=[(0.0, -3.5, 1.2), (-0.15, -3.48, 1.25)],
    )
    return render(scene, 0, flow=True), render(scene, 1)


def test_flow_takes_masks_onto_those_of_the_next_frame(moving):
    now, then = moving
    for n in range(2):
        y, x = np.nonzero(now.visible[n])
        column = np.rint(x + now.flow[y, x, 0]).astype(int)
        row = np.rint(y + now.flow[y, x, 1]).astype(int)
        inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        grown = cv2.dilate(then.amodal[n].astype(np.uint8), np.ones((3, 3), np.uint8))
        assert inside.mean() > 0.8
        assert grown[row[inside], column[inside]].all()
        assert np.hypot(now.flow[y, x, 0], now.flow[y, x, 1]).mean() > 1


def test_flow_takes_the_paint_along(moving):
    now, then = moving
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    target = x + now.flow[..., 0], y + now.flow[..., 1]
    seen = cv2.remap(then.image, *target, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    for mask in (*now.visible, ~now.visible.any(axis=0)):
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        before, moved, unmoved = (a[inner].ravel() for a in (now.image, seen, then.image))
        likeness = np.corrcoef(before, moved)[0, 1]  # light on it may change, paint may not
        assert likeness > max(0.9, np.corrcoef(before, unmoved)[0, 1])


def test_flow_of_what_stands_still_is_zero_and_of_the_last_frame_is_refused():
    scene = make_playroom([(ball((0, 0, 0), 0.5),)], [[[0.0, 0.0, 0.5]]] * 2)
    np.testing.assert_allclose(render(scene, 0, flow=True).flow, 0.0, atol=1e-4)
    assert render(scene, 0).flow is None
    with pytest.raises(ValueError, match="before the last"):
        render(scene, 1, flow=True)


def test_toy_casts_a_shadow_on_the_floor_away_from_the_lamp():
    high = [[[0.0, 0.0, 1.6]]]
    body = [(ball((0, 0, 0), 0.4),)]
    places = [(0.0, -5.0, 2.0)]
    frame = render(make_playroom(body, high, places=places))
    without = render(make_playroom(body, [[[0.0, 0.0, 60.0]]], places=places))
    darker = without.image.astype(int).sum(axis=2) - frame.image.astype(int).sum(axis=2) > 40
    shadow = darker & ~cv2.dilate(frame.amodal[0].astype(np.uint8), np.ones((3, 3))).astype(bool)
    rows, columns = np.nonzero(shadow)
    depth = frame.depth[rows, columns]
    assert len(rows) > 20
    assert abs(columns.mean() - (SIZE - 1) / 2) < 2
    assert 5.5 < np.median(depth) < 7.5  # the lamp is behind the camera, so it falls 1.2 m behind


def test_smoothing_changes_the_picture_at_edges_only(monkeypatch):
    bodies = [(ball((0, 0, 0), 0.5),), (block((0, 0, 0), (0.4, 0.4, 0.4)),)]
    scene = make_playroom(bodies, [[[-0.6, 0.0, 0.6], [0.7, 0.0, 0.5]]])
    smooth = render(scene)
    monkeypatch.setattr(ray_render, "_smooth_edges", lambda *arguments: None)
    plain = render(scene)
    np.testing.assert_array_equal(smooth.amodal, plain.amodal)
    changed = (smooth.image != plain.image).any(axis=2)
    outline = np.zeros_like(changed)
    for mask in plain.amodal:
        outline |= cv2.morphologyEx(
            mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
        ).astype(bool)
    assert 0 < changed.mean() < 0.15
    assert changed[outline].mean() > 0.6
    background = ~cv2.dilate(plain.amodal.any(axis=0).astype(np.uint8), np.ones((5, 5)))
    assert not changed[:20][background[:20].astype(bool) & ~outline[:20]].all()
