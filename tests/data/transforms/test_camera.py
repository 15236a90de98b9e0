"""Camera motions over a still image."""

import numpy as np
import pytest

from amodal2.data.transforms import CameraMotion, random_camera_motion


def test_camera_motion_shift_moves_frame_and_mask_by_whole_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    mask = frame[None, :, :, 0] > 100
    motion = CameraMotion((0.0, 0.0), (1.0, 1.0), ((0.0, 0.0), (0.1, -0.25)))
    frames = motion.apply_frame(frame)
    masks = motion.apply_masks(np.stack([mask, mask]))
    assert np.array_equal(frames[0], frame)
    assert np.array_equal(frames[1, :15, 4:], frame[5:, :36])
    assert (frames[1, 15:] == (124, 116, 104)).all()
    assert np.array_equal(masks[1, 0, :15, 4:], mask[0, 5:, :36])
    assert not masks[1, 0, 15:].any()


def test_camera_motion_rotates_and_zooms_about_the_centre() -> None:
    mask = np.zeros((1, 1, 21, 21), dtype=bool)
    mask[0, 0, 10, 10:15] = True
    turned = CameraMotion((90.0,), (2.0,), ((0.0, 0.0),)).apply_masks(mask)[0, 0]
    rows, columns = turned.nonzero()
    assert set(columns) <= {9, 10, 11}
    assert (rows.min(), rows.max()) == pytest.approx((2, 10), abs=1)


def test_random_camera_motion_is_even_and_within_its_limits() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        motion = random_camera_motion(rng, 5, rotation=15.0, zoom=0.2, shift=0.1)
        assert np.abs(motion.angles).max() <= 15
        assert np.abs(np.array(motion.zooms) - 1).max() <= 0.2
        assert np.abs(motion.shifts).max() <= 0.1
        for values in (motion.angles, motion.zooms, np.array(motion.shifts)[:, 0]):
            assert np.ptp(np.diff(values)) == pytest.approx(0, abs=1e-9)
    assert len(random_camera_motion(rng, 1, rotation=15.0, zoom=0.2, shift=0.1).angles) == 1
