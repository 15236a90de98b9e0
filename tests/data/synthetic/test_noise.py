import numpy as np

from amodal2.data.synthetic.noise import fractal_noise, ridged_noise, tileable_noise


def test_fractal_noise_fills_the_unit_range():
    noise = fractal_noise(np.random.default_rng(0), 20, 30, 4.0)
    assert noise.shape == (20, 30)
    assert noise.dtype == np.float32
    assert (noise.min(), noise.max()) == (0.0, 1.0)


def test_tileable_noise_continues_over_its_border():
    noise = tileable_noise(np.random.default_rng(0), 96, 6)
    steps = np.abs(np.diff(noise, axis=1)).max()
    assert np.abs(noise[:, 0] - noise[:, -1]).max() <= 1.1 * steps
    assert np.abs(noise[0] - noise[-1]).max() <= 1.1 * np.abs(np.diff(noise, axis=0)).max()


def test_ridged_noise_is_mostly_dark_with_bright_lines():
    web = ridged_noise(np.random.default_rng(0), 96, 6)
    assert web.min() == 0.0
    assert web.max() > 0.9
    assert web.mean() < 0.6
