import cv2
import numpy as np
import pytest

from amodal2.data.synthetic.species import SPECIES, draw_individual


def body(index, seed=0):
    return draw_individual(SPECIES[index], np.random.default_rng(seed), 60).body


def mean_colour(sprite):
    image = sprite.image[sprite.image[..., 3] == 255, :3].astype(np.float32) / 255
    return image.mean(axis=0)


def aspect(sprite):
    u0, v0, u1, v1 = sprite.extent
    return (v1 - v0) / (u1 - u0)


def test_species_are_six_with_names_of_their_own():
    assert len({species.name for species in SPECIES}) == len(SPECIES) == 6


@pytest.mark.parametrize("index", range(6), ids=[s.name for s in SPECIES])
def test_draw_individual_fits_the_unit_body_length(index):
    u0, v0, u1, v1 = body(index).extent
    assert -0.1 < u0 < 0.05
    assert 0.95 < u1 < 1.12
    assert max(-v0, v1) <= SPECIES[index].half_height + 0.05


@pytest.mark.parametrize("index", range(6), ids=[s.name for s in SPECIES])
def test_draw_individual_gives_each_fish_a_look_of_its_own(index):
    first, second = body(index, 1), body(index, 2)
    np.testing.assert_array_equal(first.image, body(index, 1).image)
    assert first.image.shape != second.image.shape or (first.image != second.image).mean() > 0.2


def test_species_differ_in_shape_or_colour():
    sprites = [body(i) for i in range(6)]
    for i in range(6):
        for j in range(i):
            colour = np.abs(mean_colour(sprites[i]) - mean_colour(sprites[j])).max()
            shape = abs(np.log(aspect(sprites[i]) / aspect(sprites[j])))
            assert colour > 0.12 or shape > 0.35, (SPECIES[i].name, SPECIES[j].name)


@pytest.mark.parametrize("index", range(6), ids=[s.name for s in SPECIES])
def test_draw_individual_paints_a_pattern(index):
    grey = cv2.cvtColor(body(index).image[..., :3], cv2.COLOR_RGB2GRAY)
    assert grey[body(index).image[..., 3] == 255].std() > 15
