from tests.data.synthetic.discs import disc, scene


def test_scene_order_is_nearest_first_per_frame():
    actors = (
        disc(0.5, 0.5, 0.1, [0.2, 0.9], frames=2),
        disc(0.5, 0.5, 0.1, [0.5, 0.5], frames=2),
    )
    made = scene(*actors, frames=2)
    assert made.order(0) == [0, 1]
    assert made.order(1) == [1, 0]


def test_scene_objects_are_the_actors_with_a_category():
    made = scene(disc(0.5, 0.5, 0.1, 0.1, None), disc(0.5, 0.5, 0.1, 0.2, 3))
    assert made.objects() == [1]
