import cv2
import numpy as np
import pytest

from amodal2.data.synthetic.aquarium import build_aquarium
from amodal2.data.synthetic.render import draw_actor, render_frame
from amodal2.data.synthetic.scene import Appendage
from tests.data.synthetic.discs import Plain, disc, scene


def analytic_disc(x, y, radius, size=100):
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(columns - (x * size - 0.5), rows - (y * size - 0.5)) <= radius * size


def test_render_frame_amodal_mask_is_the_whole_disc():
    frame = render_frame(scene(disc(0.4, 0.5, 0.2, 0.5)), 0, 100, 100)
    np.testing.assert_array_equal(frame.visible, frame.amodal)
    wrong = frame.amodal[0] ^ analytic_disc(0.4, 0.5, 0.2)
    assert wrong.sum() <= 0.02 * frame.amodal.sum()


def test_render_frame_amodal_mask_is_cut_at_the_border():
    frame = render_frame(scene(disc(0.0, 0.5, 0.2, 0.5)), 0, 100, 100)
    whole = render_frame(scene(disc(0.5, 0.5, 0.2, 0.5)), 0, 100, 100)
    assert frame.amodal.sum() == pytest.approx(whole.amodal.sum() / 2, rel=0.02)


def test_render_frame_nearer_actor_hides_the_farther_one():
    far, near = disc(0.4, 0.5, 0.2, 0.8), disc(0.55, 0.5, 0.15, 0.2, colour=(0.0, 0.0, 1.0))
    frame = render_frame(scene(far, near), 0, 100, 100)
    np.testing.assert_array_equal(frame.visible[0], frame.amodal[0] & ~frame.amodal[1])
    np.testing.assert_array_equal(frame.visible[1], frame.amodal[1])
    assert frame.order == [1, 0]
    inside = cv2.erode(frame.visible[1].astype(np.uint8), np.ones((3, 3))) > 0
    faded = round(255 * (1 - 0.42 * 0.2))
    assert (frame.image[inside] == (0, 0, faded)).all()


def test_render_frame_scenery_hides_but_is_no_object():
    frame = render_frame(scene(disc(0.5, 0.5, 0.1, 0.8), disc(0.5, 0.5, 0.2, 0.2, None)), 0, 99, 99)
    assert frame.visible.shape == (1, 99, 99)
    assert frame.visible.sum() == 0
    assert frame.amodal.sum() > 200
    assert frame.order == [0]


def test_render_frame_object_outside_is_empty():
    frame = render_frame(scene(disc(2.0, 0.5, 0.1, 0.5)), 0, 50, 50)
    assert not frame.amodal.any()
    assert (frame.image == 128).all()


def test_render_frame_flow_of_a_moving_disc_and_the_background():
    moving = disc([0.4, 0.45], 0.5, 0.2, 0.5, frames=2)
    frame = render_frame(scene(moving, frames=2), 0, 100, 100, flow=True)
    assert np.abs(frame.flow[frame.visible[0]] - (5.0, 0.0)).max() < 1e-3
    assert np.abs(frame.flow[~frame.visible[0]] - (1.0, 0.0)).max() < 1e-3


def test_render_frame_flow_of_the_last_frame_is_refused():
    with pytest.raises(ValueError, match="before the last"):
        render_frame(scene(disc(0.5, 0.5, 0.2, 0.5)), 0, 20, 20, flow=True)


def test_draw_actor_appendage_is_drawn_over_the_body():
    body, limb = disc(0.5, 0.5, 0.2, 0.5), disc(0, 0, 1, 0, colour=(0.0, 1.0, 0.0)).sprite
    limb.pixels_per_unit *= 4
    body.appendages = (Appendage(limb, (0.5, 0.0), 0.0, 0.0, 0.0, 0.0),)
    patch = draw_actor(body, 0, 100, 100)
    x = round(0.6 * 100 - 0.5) - patch.x
    y = round(0.5 * 100 - 0.5) - patch.y
    np.testing.assert_array_equal(patch.image[y, x], [0, 255, 0, 255])
    np.testing.assert_array_equal(patch.image[y, x - 15], [255, 0, 0, 255])


@pytest.fixture(scope="module")
def aquarium():
    made = build_aquarium(np.random.default_rng(3), 6, 96, 144)
    made.backdrop = Plain()
    return made


def test_render_frame_masks_of_an_aquarium_are_consistent(aquarium):
    frame = render_frame(aquarium, 2, 96, 144)
    assert not (frame.visible & ~frame.amodal).any()
    assert frame.visible.sum(axis=0).max() == 1
    for n, index in enumerate(aquarium.objects()):
        alone = draw_actor(aquarium.actors[index], 2, 96, 144)
        assert frame.amodal[n].sum() == (0 if alone is None else alone.mask.sum())


def test_render_frame_flow_of_swimming_fish_carries_the_picture_to_the_next_frame(aquarium):
    now, then = (render_frame(aquarium, t, 96, 144, flow=True) for t in (2, 3))
    rows, columns = np.mgrid[:96, :144].astype(np.float32)
    x, y = columns + now.flow[..., 0], rows + now.flow[..., 1]
    carried = cv2.remap(then.image, x, y, cv2.INTER_LINEAR)
    tested = 0
    for n in range(len(now.visible)):
        still = cv2.remap(then.visible[n].astype(np.float32), x, y, cv2.INTER_LINEAR) > 0.99
        inner = cv2.erode(now.visible[n].astype(np.uint8), np.ones((5, 5))) > 0
        core = inner & still
        if core.sum() < 60:
            continue
        tested += 1
        assert still[inner].mean() > 0.6
        error = np.abs(carried[core].astype(int) - now.image[core]).mean()
        unmoved = np.abs(then.image[core].astype(int) - now.image[core]).mean()
        assert error < 0.5 * unmoved
    assert tested >= 3
