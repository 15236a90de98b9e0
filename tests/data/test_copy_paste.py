import cv2
import numpy as np
import pytest

from amodal2.data.copy_paste import Composer, Layer, layers_of_image
from amodal2.data.datasets import load_amodal_coco_json
from amodal2.data.reference_sets import find_references
from amodal2.structures import encode_mask
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import write

SIZE = (60, 90)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def block(y0, y1, x0, x1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


NEAR, FAR = block(10, 30, 10, 40), block(25, 50, 20, 30)


def picture(folder, *records):
    image = np.zeros((*SIZE, 3), np.uint8)
    image[FAR], image[NEAR] = BLUE, RED
    cv2.imwrite(str(folder / "1.png"), image[..., ::-1])
    data = image_content(*records)
    data["images"][0].update(height=SIZE[0], width=SIZE[1])
    (item,) = load_amodal_coco_json(write(folder, data), folder)
    return item, image


def both(number, amodal, visible):
    masks = {"amodal_segm": encode_mask(amodal), "visible_segm": encode_mask(visible)}
    return thing(number, **masks)


def seen(number, visible, **keys):
    record = thing(number, visible_segm=encode_mask(visible), **keys)
    del record["amodal_segm"]
    return record


@pytest.fixture
def market(tmp_path):
    return picture(tmp_path, both(1, NEAR, NEAR), both(2, FAR, FAR & ~NEAR))


def test_layers_of_amodal_data_keep_both_masks(market):
    layers = layers_of_image(market[0])
    assert [layer.exact for layer in layers] == [True, False]
    assert not any(layer.crowd for layer in layers)
    np.testing.assert_array_equal(layers[1].amodal, FAR)
    np.testing.assert_array_equal(layers[1].visible, FAR & ~NEAR)


def test_layers_of_visible_data_are_known_only_if_complete(tmp_path):
    alone = block(50, 58, 70, 80)
    item, _ = picture(
        tmp_path, seen(1, NEAR), seen(2, FAR & ~NEAR), seen(3, alone), seen(4, alone, iscrowd=1)
    )
    assert [layer.crowd for layer in layers_of_image(item)] == [True, True, False, True]


def test_composer_truth_is_exact(market):
    item, image = market
    composer = Composer(find_references([item], 10), count=(3, 3), scale=(0.5, 1.0))
    before = image.copy()
    for seed in range(6):
        found, layers = composer(np.random.default_rng(seed), image, layers_of_image(item))
        np.testing.assert_array_equal(image, before)
        given, pasted = layers[:2], layers[2:]
        assert pasted
        union = np.zeros(SIZE, bool)
        for layer in reversed(pasted):
            np.testing.assert_array_equal(layer.visible, layer.amodal & ~union)
            union |= layer.amodal
            assert layer.visible.sum() >= 0.1 * layer.amodal.sum()
        np.testing.assert_array_equal(given[0].visible, NEAR & ~union)
        np.testing.assert_array_equal(given[1].visible, FAR & ~NEAR & ~union)
        np.testing.assert_array_equal(given[1].amodal, FAR)
        np.testing.assert_array_equal(found[~union], image[~union])
        inner = cv2.erode(pasted[-1].amodal.astype(np.uint8), np.ones((7, 7))) > 0
        assert (found[inner] == RED).all()


def test_composer_places_overlap_what_is_there(market):
    item, image = market
    composer = Composer(find_references([item], 10), count=(1, 1), scale=(0.5, 0.5))
    hits = 0
    for seed in range(20):
        _, layers = composer(np.random.default_rng(seed), image, layers_of_image(item))
        hits += bool((layers[-1].amodal & (NEAR | FAR)).any())
    assert hits >= 12


def test_composer_is_fixed_by_the_generator(market):
    item, image = market
    composer = Composer(find_references([item], 10))
    one, other = (
        composer(np.random.default_rng(4), image, layers_of_image(item))[0] for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_composer_leaves_out_what_would_hide_an_object(market):
    item, image = market
    small = Layer(block(29, 30, 44, 45), block(29, 30, 44, 45), 0, "dot")
    composer = Composer(find_references([item], 10), count=(1, 1), scale=(9.0, 9.0))
    _, layers = composer(np.random.default_rng(0), image, [small])
    if len(layers) > 1:
        assert layers[0].visible.any()
    hidden = Layer(FAR, block(48, 50, 20, 21), 0, "hidden already")
    assert composer._leaves_enough([hidden], [hidden])


@pytest.mark.parametrize(
    "bad", [{"count": (0, 2)}, {"scale": (2.0, 1.0)}, {"most_hidden": 1.0}], ids=str
)
def test_composer_bad_settings_are_refused(market, bad):
    with pytest.raises(ValueError, match="Composer: expected"):
        Composer(find_references([market[0]], 10), **bad)


def test_composer_without_donors_is_refused():
    with pytest.raises(ValueError, match="expected complete objects to paste, got none"):
        Composer([])
